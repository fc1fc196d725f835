// The command line of mount.datacloud: options of mount(8), of ours, and wrong ones.
#include "fs/fuse/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

namespace datacloud {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

MountArguments parsed(const std::string& options) {
  auto arguments = parse_mount_arguments({"cloud.toml", "/mnt", "-o", options});
  EXPECT_TRUE(arguments) << options << ": " << arguments.error().text();
  return arguments ? arguments.value() : MountArguments{};
}

std::string refusal(const std::string& options) {
  auto arguments = parse_mount_arguments({"cloud.toml", "/mnt", "-o", options});
  EXPECT_FALSE(arguments) << options;
  return arguments ? "" : arguments.error().text();
}

TEST(MountFlags, TakesEveryOptionOfMount8) {
  const std::pair<const char*, unsigned long> cases[] = {
      {"defaults", 0},
      {"ro", MS_RDONLY},
      {"ro,rw", 0},
      {"sync", MS_SYNCHRONOUS},
      {"sync,async", 0},
      {"dirsync", MS_DIRSYNC},
      {"nosuid,nodev,noexec", MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"nosuid,suid,nodev,dev,noexec,exec", 0},
      {"nosymfollow", MS_NOSYMFOLLOW},
      {"nosymfollow,symfollow", 0},
      {"nodiratime", MS_NODIRATIME},
      {"nodiratime,diratime", 0},
      {"lazytime", MS_LAZYTIME},
      {"lazytime,nolazytime", 0},
      {"silent,loud", 0},
      {"user", MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"user=somebody,exec", MS_NOSUID | MS_NODEV},
      {"users", MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"owner,dev", MS_NOSUID},
      {"group", MS_NOSUID | MS_NODEV},
      {"auto,noauto,nouser,nousers,noowner,nogroup,acl,_netdev,nofail,nomand,noiversion", 0},
      {"x-systemd.automount,x-systemd.requires=a.service,X-mine=1,comment=words", 0},
  };
  for (const auto& [options, flags] : cases)
    EXPECT_EQ(parsed(options).flags.value(), flags) << options;
}

// The kernel would let noatime win over relatime, whichever came last.
TEST(MountFlags, TheLastOfTheAccessTimeOptionsHolds) {
  EXPECT_EQ(parsed("noatime,relatime").flags.value(), MS_RELATIME);
  EXPECT_EQ(parsed("relatime,noatime").flags.value(), MS_NOATIME);
  EXPECT_EQ(parsed("noatime,strictatime").flags.value(), MS_STRICTATIME);
  EXPECT_EQ(parsed("strictatime,relatime").flags.value(), MS_RELATIME);
  // A remount without any of the flags would keep noatime.
  EXPECT_EQ(parsed("noatime,atime").flags.value(), MS_RELATIME);
}

TEST(MountFlags, LibfuseGetsWhatItKnows) {
  EXPECT_THAT(parsed("ro,nosuid,nodiratime").flags.libfuse_options(true),
              ElementsAre("ro", "nosuid", "dev"));
  EXPECT_TRUE(parsed("ro,nodiratime").flags.beyond_libfuse());
  EXPECT_FALSE(parsed("ro,nosuid,relatime,silent").flags.beyond_libfuse());
  // fusermount3 takes dev and suid from root alone.
  EXPECT_THAT(parsed("rw").flags.libfuse_options(false), IsEmpty());
}

TEST(MountArguments, AWrongOptionIsNamedInALine) {
  const std::pair<const char*, const char*> cases[] = {
      {"noload", "-o noload: unknown option"},
      {"rw,errors=remount-ro", "-o errors=remount-ro: unknown option"},
      {"context=system_u:object_r:tmp_t:s0", "SELinux"},
      {"mand", "-o mand: "},
      {"iversion", "-o iversion: "},
      {"bind", "-o bind: "},
      {"threads=0", "between 1 and 256"},
      {"threads", "needs a value"},
      {"metrics=nonsense", "-o metrics"},
      {"max_read=1048576", "-o max_read=1048576: unknown option"},
      {"uidmap=", "-o uidmap=: needs a file"},
      {"known_names_max=10", "-o known_names_max=10: needs a number"},
      {"known_names_max=2000x", "-o known_names_max=2000x: needs a number"},
      {"squash=nobody", "-o squash=nobody: needs numbers"},
      {"squash=1:2,uidmap=/etc/map", "-o squash: not together with -o uidmap"},
  };
  for (const auto& [options, text] : cases) {
    EXPECT_THAT(refusal(options), HasSubstr(text));
    EXPECT_THAT(refusal(options), Not(HasSubstr("\n")));
  }
  EXPECT_TRUE(parse_mount_arguments({"F", "/mnt", "-s", "-o", "noload,ro"}));
  EXPECT_FALSE(parse_mount_arguments({"F", "/mnt", "--wrong"}));
  EXPECT_FALSE(parse_mount_arguments({"F"}));
  EXPECT_FALSE(parse_mount_arguments({"F", "/mnt", "more"}));
}

TEST(MountArguments, OwnersAreOptionsOfTheMount) {
  EXPECT_EQ(parsed("uidmap=/etc/map").uidmap, "/etc/map");
  EXPECT_FALSE(parsed("uidmap=/etc/map").squash);
  EXPECT_TRUE(parsed("nolock").local_locks);
  EXPECT_FALSE(parsed("nolock,lock").local_locks);
  EXPECT_TRUE(parsed("atime_daily").daily_atime);
  EXPECT_FALSE(parsed("atime_daily,noatime_daily").daily_atime);
  EXPECT_EQ(parsed("known_names_max=2000").known_names_max, 2000u);
  EXPECT_EQ(parsed("squash=1000:100").squash, (Owner{1000, 100}));
  EXPECT_THAT(parsed("squash=1000:100,ro").own, ElementsAre("squash=1000:100"));
  EXPECT_THAT(parsed("uidmap=/etc/map,ro").own, ElementsAre("uidmap=/etc/map"));
}

TEST(MountArguments, ADirectoryOfTheCloudIsPartOfTheSourceOrAnOption) {
  EXPECT_EQ(parsed("subdir=/a/b").directory, "/a/b");
  EXPECT_THAT(parsed("subdir=/a/b").own, ElementsAre("subdir=/a/b"));
  EXPECT_EQ(parse_mount_source("demo:/a/b").config, "demo");
  EXPECT_EQ(parse_mount_source("demo:/a/b").directory, "/a/b");
  EXPECT_EQ(parse_mount_source("/etc/dc.toml:/a:/b").config, "/etc/dc.toml");
  EXPECT_EQ(parse_mount_source("/etc/dc.toml:/a:/b").directory, "/a:/b");
  EXPECT_EQ(parse_mount_source("demo").directory, "");
  EXPECT_EQ(parse_mount_source("a:b").config, "a:b");
  EXPECT_EQ(parse_mount_source(":/a").config, ":/a");
  EXPECT_FALSE(parse_mount_arguments({"demo", "/m", "-o", "subdir=a"}));
  EXPECT_FALSE(parse_mount_arguments({"demo:/a", "/m", "-o", "subdir=/b"}));
  EXPECT_TRUE(parse_mount_arguments({"demo:/a", "/m", "-o", "subdir=/a"}));
}

TEST(MountArguments, ARemountTakesWhatTheKernelsTableShows) {
  const auto arguments = parsed(
      "ro,relatime,remount,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576");
  EXPECT_TRUE(arguments.remount);
  EXPECT_TRUE(arguments.flags.read_only());
  EXPECT_THAT(arguments.own, ElementsAre("allow_other"));
  EXPECT_THAT(parsed("site=a,rw,threads=4,_netdev").own, ElementsAre("site=a", "threads=4"));
}

}  // namespace
}  // namespace datacloud
