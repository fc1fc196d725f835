// The list of the cloud's daemons that mounts are told.
#include "daemon/leadership/daemon_places.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

TEST(DaemonPlaces, AreInTheOrderOfSuccession) {
  DaemonPlaces places;
  places.set({{.name = "south", .order = 2},
              {.name = "west", .order = 1, .leads = true},
              {.name = "east", .order = 1}});
  ASSERT_EQ(places.all().size(), 3u);
  EXPECT_EQ(places.all()[0].name, "east");
  EXPECT_EQ(places.all()[1].name, "west");
  EXPECT_TRUE(places.all()[1].leads);
  EXPECT_EQ(places.all()[2].name, "south");
}

TEST(DaemonPlaces, TellOfChangesAlone) {
  DaemonPlaces places;
  int told = 0;
  places.on_change([&] {
    ++told;
    EXPECT_FALSE(places.all().empty());
  });
  const KnownDaemon east{.name = "east", .addresses = {"east:7000"}, .leads = true};
  const KnownDaemon west{.name = "west", .order = 1};
  places.set({east, west});
  EXPECT_EQ(told, 1);
  places.set({west, east});
  EXPECT_EQ(told, 1);
  places.set({east});
  EXPECT_EQ(told, 2);
}

}  // namespace
}  // namespace datacloud
