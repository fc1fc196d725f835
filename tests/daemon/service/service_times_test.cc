// Times beyond what nanoseconds hold: refused while the cloud is without the feature, kept and
// shown with it.
#include "common/proto/admin.pb.h"
#include "common/proto/file_time.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

constexpr FileTime kYear2300{10'413'792'000, 5};

class ServiceTimesTest : public ServiceTest {
 protected:
  void enable_times() {
    Client t = tool();
    pb::AdminRequest admin;
    admin.mutable_feature()->add_enable("times");
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(t, request);
    ASSERT_EQ(reply.error(), 0) << reply.error_text();
    ASSERT_EQ(service_->time_range(), TimeRange::wide);
  }
  static pb::Request set_times(InodeId ino, const FileTime& time) {
    pb::Request request;
    request.mutable_setattr()->set_ino(ino);
    set_atime(*request.mutable_setattr(), time);
    set_mtime(*request.mutable_setattr(), time);
    return request;
  }
  pb::Inode stored(InodeId ino) {
    auto inode = get_inode(store_->begin(), ino);
    EXPECT_TRUE(inode);
    return inode.value();
  }
};

TEST_F(ServiceTimesTest, WithoutTheFeatureATimeIsRefusedAndNoneIsWritten) {
  Client a = mount(1, {"times"});
  const InodeId ino = create(a, "f");
  const auto before = stored(ino).SerializeAsString();
  auto reply = call(a, set_times(ino, kYear2300));
  EXPECT_EQ(reply.error(), -static_cast<int>(Errc::invalid));
  EXPECT_THAT(reply.error_text(), testing::HasSubstr("\"times\""));
  auto commit = commit_request(put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance)),
                               ino, grant(a, IdKind::version));
  set_mtime(*commit.mutable_commit()->mutable_updates(0), kYear2300);
  EXPECT_EQ(call(a, commit).error(), -static_cast<int>(Errc::invalid));
  EXPECT_EQ(stored(ino).SerializeAsString(), before);
  EXPECT_EQ(stored(ino).btime_ns(), 0) << "no times of creation either";
}

TEST_F(ServiceTimesTest, WithItTimesAreKeptByRequestsAndCommits) {
  enable_times();
  Client a = mount(1, {"times"});
  const InodeId ino = create(a, "f");
  EXPECT_EQ(stored(ino).btime_ns(), 1) << "when it was created";
  EXPECT_EQ(call(a, set_times(ino, kYear2300)).error(), 0);
  EXPECT_EQ(atime_of(stored(ino)), kYear2300);
  EXPECT_EQ(mtime_of(stored(ino)), kYear2300);
  EXPECT_EQ(stored(ino).mtime_ns(), 0);
  auto commit = commit_request(put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance)),
                               ino, grant(a, IdKind::version));
  const FileTime last{kFileSecondsMax, 0};
  set_mtime(*commit.mutable_commit()->mutable_updates(0), last);
  EXPECT_EQ(call(a, commit).error(), 0);
  EXPECT_EQ(mtime_of(stored(ino)), last);
  restart();
  EXPECT_EQ(mtime_of(stored(ino)), last);
  EXPECT_EQ(service_->time_range(), TimeRange::wide);
  connect(a);
  EXPECT_EQ(call(a, set_times(ino, {5, 6})).error(), 0);
  EXPECT_FALSE(stored(ino).has_mtime()) << "a time has one form";
  EXPECT_EQ(stored(ino).mtime_ns(), 5'000'000'006);
}

// Adding an entry sets the directory's times, which may be in either form then.
TEST_F(ServiceTimesTest, ADirectorysTimesFollowItsEntries) {
  enable_times();
  Client a = mount(1, {"times"});
  EXPECT_EQ(call(a, set_times(kRootInode, kYear2300)).error(), 0);
  create(a, "f");
  EXPECT_FALSE(stored(kRootInode).has_mtime());
  EXPECT_EQ(stored(kRootInode).mtime_ns(), 1);
  EXPECT_EQ(atime_of(stored(kRootInode)), kYear2300);
}

TEST_F(ServiceTimesTest, TimesThatAreNoneAreRefused) {
  enable_times();
  Client a = mount(1, {"times"});
  const InodeId ino = create(a, "f");
  auto both = set_times(ino, kYear2300);
  both.mutable_setattr()->set_mtime_ns(1);
  EXPECT_EQ(call(a, both).error(), -static_cast<int>(Errc::invalid));
  auto fits = set_times(ino, kYear2300);
  fits.mutable_setattr()->mutable_atime()->set_seconds(5);
  EXPECT_EQ(call(a, fits).error(), -static_cast<int>(Errc::invalid));
  auto beyond = set_times(ino, kYear2300);
  beyond.mutable_setattr()->mutable_mtime()->set_nanos(1'000'000'000);
  EXPECT_EQ(call(a, beyond).error(), -static_cast<int>(Errc::invalid));
}

}  // namespace
}  // namespace datacloud
