// What a commit tells the mount of each inode, and that a commit follows only the states it was
// made upon: what others have changed meanwhile is never overwritten by data that did not know of
// it.
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using Outcome = pb::UpdateOutcome;

class ServiceCommitsTest : public ServiceTest {
 protected:
  pb::Reply commit_block(Client& client, InodeId ino, uint64_t block, uint64_t change_id,
                         std::vector<uint64_t> follows) {
    const auto stripe =
        put_stripe(grant(client, IdKind::stripe, 1), grant(client, IdKind::instance, 5));
    auto request = commit_request(stripe, ino, grant(client, IdKind::version, 1), block);
    auto* update = request.mutable_commit()->mutable_updates(0);
    update->set_change_id(change_id);
    for (const uint64_t id : follows) update->add_follows(id);
    return call(client, request);
  }
  pb::Inode attributes(Client& client, InodeId ino) {
    return call(client, lease_request(ino, pb::LEASE_NONE)).attr().inode();
  }
};

TEST_F(ServiceCommitsTest, TellsWhatIsMappedAfterEachUpdate) {
  Client a = mount(1);
  const InodeId ino = create(a, "f");
  EXPECT_NE(attributes(a, ino).change_id(), 0u);
  const auto stripe = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  auto request = commit_request(stripe, ino, grant(a, IdKind::version), 4);
  auto* cut = request.mutable_commit()->add_updates();
  cut->set_ino(ino);
  cut->set_truncate_to(100);
  cut->set_change_id(8);
  const auto reply = call(a, request);
  ASSERT_EQ(reply.commit().outcomes_size(), 2);
  EXPECT_EQ(reply.commit().outcomes(0).blocks_mapped(), 1u);
  EXPECT_EQ(reply.commit().outcomes(0).size(), 5 * 4096u);
  EXPECT_EQ(reply.commit().outcomes(1).blocks_mapped(), 0u);
  EXPECT_EQ(reply.commit().outcomes(1).size(), 100u);
  EXPECT_EQ(attributes(a, ino).change_id(), 8u);
}

TEST_F(ServiceCommitsTest, FollowsOnlyTheStatesItWasMadeUpon) {
  Client a = mount(1);
  const InodeId ino = create(a, "f");
  const uint64_t born = attributes(a, ino).change_id();
  EXPECT_THAT(outcomes(commit_block(a, ino, 0, 70, {born})),
              testing::ElementsAre(Outcome::APPLIED));
  EXPECT_THAT(outcomes(commit_block(a, ino, 1, 70, {born})), testing::ElementsAre(Outcome::APPLIED))
      << "a later part of the same unit";
  EXPECT_THAT(outcomes(commit_block(a, ino, 2, 71, {born, 70})),
              testing::ElementsAre(Outcome::APPLIED))
      << "one of several";
  const size_t before = objects();
  const auto late = commit_block(a, ino, 0, 72, {born, 70});
  EXPECT_THAT(outcomes(late), testing::ElementsAre(Outcome::OVERTAKEN));
  EXPECT_EQ(attributes(a, ino).change_id(), 71u) << "nothing of it is applied";
  EXPECT_EQ(attributes(a, ino).blocks_mapped(), 3u);
  Client t = tool();
  call(t, gc_request());
  EXPECT_EQ(objects(), before) << "its stripe is garbage";
}

TEST_F(ServiceCommitsTest, OtherInodesOfTheSameCommitAreNotHeldUp) {
  Client a = mount(1);
  const InodeId mine = create(a, "mine"), theirs = create(a, "theirs");
  auto request = commit_request(put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance)),
                                mine, grant(a, IdKind::version));
  auto* update = request.mutable_commit()->add_updates();
  update->set_ino(theirs);
  update->set_grow_to(5);
  update->set_change_id(6);
  update->add_follows(12345);
  EXPECT_THAT(outcomes(call(a, request)),
              testing::ElementsAre(Outcome::APPLIED, Outcome::OVERTAKEN));
  EXPECT_EQ(attributes(a, mine).size(), 4096u);
  EXPECT_EQ(attributes(a, theirs).size(), 0u);
}

TEST_F(ServiceCommitsTest, NamesAndAttributesAreNoChangeOfTheContents) {
  Client a = mount(1);
  const InodeId ino = create(a, "f");
  write_block(a, ino);
  const uint64_t id = attributes(a, ino).change_id();
  pb::Request request;
  request.mutable_rename()->set_parent(kRootInode);
  request.mutable_rename()->set_name("f");
  request.mutable_rename()->set_new_parent(kRootInode);
  request.mutable_rename()->set_new_name("g");
  EXPECT_EQ(call(a, request).error(), 0);
  pb::Request mode;
  mode.mutable_setattr()->set_ino(ino);
  mode.mutable_setattr()->set_mode(0600);
  EXPECT_EQ(call(a, mode).error(), 0);
  EXPECT_EQ(attributes(a, ino).change_id(), id);
  write_block(a, ino, 1);
  EXPECT_NE(attributes(a, ino).change_id(), id) << "also of a commit that gives none";
}

}  // namespace
}  // namespace datacloud
