// What is known of a directory's names: present, absent and not known.
#include "fs/file/known_listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace datacloud {
namespace {

using State = KnownListing::State;

pb::ReadDirReply page(uint64_t first, uint64_t last, bool end, uint64_t end_cookie = 100) {
  pb::ReadDirReply out;
  for (uint64_t cookie = first; cookie <= last; ++cookie) {
    auto* item = out.add_items();
    item->set_name("n" + std::to_string(cookie));
    item->mutable_entry()->set_ino(1000 + cookie);
    item->mutable_entry()->set_cookie(cookie);
  }
  out.set_end(end);
  out.set_end_cookie(end_cookie);
  return out;
}

class KnownListingTest : public testing::Test {
 protected:
  KnownListing known{1};
  std::vector<InodeId> added, dropped;
};

TEST_F(KnownListingTest, NamesArePresentAsSoonAsTheyAreTold) {
  known.add(0, page(3, 5, false), added);
  EXPECT_THAT(added, testing::ElementsAre(1003, 1004, 1005));
  EXPECT_EQ(known.find("n4").state, State::present);
  EXPECT_EQ(known.find("n4").ino, 1004u);
  EXPECT_EQ(known.find("n6").state, State::unknown) << "it may be on the next page";
  EXPECT_EQ(known.cookie_of(1005), 5u);
  EXPECT_EQ(known.next(), 5u);
}

TEST_F(KnownListingTest, NamesAreAbsentOnceAllArePresent) {
  known.add(0, page(3, 5, false), added);
  known.add(5, page(6, 8, true), added);
  EXPECT_TRUE(known.complete());
  EXPECT_EQ(known.find("other").state, State::absent);
}

TEST_F(KnownListingTest, PagesThatDoNotFollowAreLeftOut) {
  known.add(0, page(3, 5, false), added);
  known.add(7, page(8, 9, true), added);
  EXPECT_FALSE(known.complete()) << "6 and 7 are missing";
  EXPECT_EQ(known.find("n8").state, State::unknown);
  known.add(5, page(6, 9, true, 101), added);
  EXPECT_FALSE(known.complete()) << "another listing's page, which ends elsewhere";
}

TEST_F(KnownListingTest, ChangedNamesAreNotKnown) {
  known.add(0, page(3, 5, true), added);
  EXPECT_TRUE(known.forget("n4", dropped));
  EXPECT_TRUE(known.forget("new", dropped));
  EXPECT_THAT(dropped, testing::ElementsAre(1004));
  EXPECT_EQ(known.find("n4").state, State::unknown);
  EXPECT_EQ(known.find("new").state, State::unknown);
  EXPECT_EQ(known.find("n3").state, State::present);
  EXPECT_EQ(known.find("other").state, State::absent);
}

TEST_F(KnownListingTest, ANameChangedBetweenPagesIsKnownByTheLaterOne) {
  known.add(0, page(3, 5, false), added);
  known.forget("n7", dropped);
  known.add(5, page(6, 8, true), added);
  EXPECT_EQ(known.find("n7").state, State::present) << "the page is newer than the change";
}

TEST_F(KnownListingTest, PagesAreGivenWhileAllIsKnown) {
  known.add(0, page(3, 5, false), added);
  pb::ReadDirReply out;
  EXPECT_FALSE(known.page(0, 10, 0, out));
  known.add(5, page(6, 8, true), added);
  ASSERT_TRUE(known.page(0, 4, 0, out));
  EXPECT_EQ(out.items_size(), 4);
  EXPECT_FALSE(out.end());
  EXPECT_EQ(out.end_cookie(), 100u);
  out.Clear();
  ASSERT_TRUE(known.page(6, 4, 100, out));
  EXPECT_EQ(out.items_size(), 2);
  EXPECT_EQ(out.items(0).name(), "n7");
  EXPECT_EQ(out.items(0).entry().ino(), 1007u);
  EXPECT_TRUE(out.end());
  out.Clear();
  EXPECT_FALSE(known.page(6, 4, 99, out)) << "of a listing that ends elsewhere";
  known.forget("n3", dropped);
  EXPECT_FALSE(known.page(0, 4, 0, out));
}

TEST_F(KnownListingTest, TooManyChangesAreNotWorthIt) {
  known.add(0, page(3, 5, true), added);
  bool worth = true;
  int names = 0;
  while (worth && names < 100'000) worth = known.forget("x" + std::to_string(names++), dropped);
  EXPECT_FALSE(worth) << "memory is bounded";
  EXPECT_GT(names, 1000);
}

}  // namespace
}  // namespace datacloud
