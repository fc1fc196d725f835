// Places for handshakes: bounded, and no crowd shuts others out.
#include "common/net/handshake_places.h"

#include <gtest/gtest.h>

#include <vector>

namespace datacloud {
namespace {

using Place = std::unique_ptr<HandshakePlaces::Place>;

TEST(HandshakePlaces, ANewcomerGetsThePlaceOfTheOldestSilentOne) {
  const auto places = std::make_shared<HandshakePlaces>(10, 3);
  std::vector<Place> held;
  std::vector<int> evicted;
  for (int i = 0; i < 3; ++i)
    held.push_back(places->take("10.0.0.1", [&evicted, i] { evicted.push_back(i); }));
  held[0]->greeted();
  const Place fourth = places->take("10.0.0.1");
  ASSERT_TRUE(fourth);
  EXPECT_EQ(evicted, (std::vector<int>{1})) << "the oldest has sent its ClientHello";
  EXPECT_TRUE(held[1]->evicted());
  EXPECT_FALSE(held[0]->evicted());
  EXPECT_EQ(places->count(), 3u);
  held.clear();
  EXPECT_EQ(places->count(), 1u) << "an evicted one gives nothing back";
  EXPECT_EQ(places->evictions(), 1u);
}

TEST(HandshakePlaces, WhoGoesOnKeepsItsPlace) {
  const auto places = std::make_shared<HandshakePlaces>(10, 2);
  std::vector<Place> held;
  for (int i = 0; i < 2; ++i) {
    held.push_back(places->take("10.0.0.1"));
    held.back()->greeted();
  }
  EXPECT_FALSE(places->take("10.0.0.1")) << "none of them is silent";
  EXPECT_TRUE(places->take("10.0.0.2"));
  EXPECT_EQ(places->evictions(), 0u);
}

TEST(HandshakePlaces, WhenAllAreTakenTheAddressWithTheMostGivesOne) {
  const auto places = std::make_shared<HandshakePlaces>(4, 3);
  std::vector<Place> crowd, others;
  for (int i = 0; i < 3; ++i) crowd.push_back(places->take("10.0.0.1"));
  others.push_back(places->take("10.0.0.2"));
  others.push_back(places->take("10.0.0.3"));
  ASSERT_TRUE(others.back());
  EXPECT_TRUE(crowd[0]->evicted());
  EXPECT_FALSE(others[0]->evicted());
  EXPECT_EQ(places->count(), 4u);
}

}  // namespace
}  // namespace datacloud
