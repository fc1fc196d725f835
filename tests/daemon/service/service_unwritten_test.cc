// A writer whose sites are away puts its recall off: it keeps its lease and says what it has.
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

class UnwrittenTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    a = mount(11);
    b = mount(12);
  }
  void put_off(Client& client, const pb::Recall& recall, uint64_t size, int error = 0) {
    pb::Request request;
    request.mutable_recall_done()->set_id(recall.id());
    auto* unwritten = request.mutable_recall_done()->mutable_unwritten();
    unwritten->set_size(size);
    unwritten->set_mtime_ns(77);
    unwritten->set_ctime_ns(INT64_MAX);
    unwritten->set_blocks_mapped(3);
    EXPECT_EQ(call(client, request).error(), error);
  }
  static pb::Request attributes_request(InodeId ino) {
    auto request = lease_request(ino, pb::LEASE_READ);
    request.mutable_lease()->set_attributes(true);
    return request;
  }

  Client a, b;
};

TEST_F(UnwrittenTest, AttributesDoNotWaitForAWriterThatCannotStore) {
  const InodeId ino = create(a, "f");
  const uint64_t looked_up = send(b, lookup_request("f"));
  const uint64_t reading = send(b, lease_request(ino, pb::LEASE_READ));
  const uint64_t asked = send(b, attributes_request(ino));
  const auto recalled = recall(a, false);
  EXPECT_FALSE(answered_now(b, looked_up));
  put_off(a, recalled, 12345);
  for (const uint64_t id : {looked_up, asked, send(b, lookup_request("f"))}) {
    const auto reply = await(b, id);
    EXPECT_EQ(reply.attr().lease(), pb::LEASE_NONE) << "nothing to be kept";
    EXPECT_EQ(reply.attr().inode().size(), 12345u);
    EXPECT_EQ(reply.attr().inode().mtime_ns(), 77);
    EXPECT_EQ(reply.attr().inode().ctime_ns(), INT64_MAX);
    EXPECT_EQ(reply.attr().inode().blocks_mapped(), 3u);
  }
  put_off(a, recalled, 23456);
  EXPECT_EQ(call(b, attributes_request(ino)).attr().inode().size(), 23456u) << "the newest";
  pb::Request listing;
  listing.mutable_readdir()->set_ino(kRootInode);
  listing.mutable_readdir()->set_plus(true);
  const auto listed = call(b, listing).readdir().items(0);
  EXPECT_EQ(listed.inode().size(), 23456u) << "listings show the same";
  EXPECT_EQ(listed.lease(), pb::LEASE_NONE);
  EXPECT_FALSE(answered_now(b, reading)) << "who wants the data waits";
  write_block(a, ino);  // its lease is good all the time
  finish(a, recalled);
  EXPECT_EQ(await(b, reading).attr().lease(), pb::LEASE_READ);
  EXPECT_EQ(call(b, lookup_request("f")).attr().inode().size(), 4096u) << "what is stored";
}

TEST_F(UnwrittenTest, TheWriterDoesNotWaitBehindThoseItKeepsWaiting) {
  const InodeId ino = create(a, "f");
  const uint64_t writing = send(b, lease_request(ino, pb::LEASE_WRITE));
  put_off(a, recall(a, false), 5);
  const uint64_t own = send(a, lookup_request("f"));
  ASSERT_TRUE(answered_now(a, own));
  EXPECT_EQ(await(a, own).attr().inode().size(), 0u) << "it knows its own";
  EXPECT_FALSE(answered_now(b, writing));
  pb::Request goodbye;
  goodbye.mutable_goodbye();
  call(a, goodbye);
  EXPECT_EQ(await(b, writing).attr().lease(), pb::LEASE_WRITE) << "its session's end ends it";
}

TEST_F(UnwrittenTest, ChangesAreToldInPlaceOfARecallThatIsPutOff) {
  const InodeId ino = create(a, "f");
  const uint64_t reading = send(b, lease_request(ino, pb::LEASE_READ));
  const auto first = recall(a, false);
  put_off(a, first, 5);
  const uint64_t removed = send(b, unlink_request("f"));
  const auto second = recall(a, false);
  const auto third = recall(a, false);
  const auto& file = second.ino() == ino ? second : third;
  EXPECT_EQ(file.ino(), ino);
  EXPECT_EQ(file.mode(), pb::LEASE_NONE);
  if (second.ino() != ino) finish(a, second);
  if (third.ino() != ino) finish(a, third);
  EXPECT_FALSE(answered_now(b, removed));
  put_off(a, first, 6);  // late: another has taken its place
  EXPECT_FALSE(answered_now(b, removed));
  put_off(a, file, 6);
  EXPECT_EQ(await(b, removed).error(), 0) << "told is enough";
  EXPECT_FALSE(answered_now(b, reading));
  finish(a, file);
  await(b, reading);
}

TEST_F(UnwrittenTest, OnlyWritersPutOffAndOnlyTheirOwn) {
  const InodeId ino = create(a, "f");
  const uint64_t waiting = send(b, attributes_request(ino));
  const auto recalled = recall(a, false);
  put_off(b, recalled, 1);
  EXPECT_FALSE(answered_now(b, waiting)) << "the recall of another";
  pb::Request wrong;
  wrong.mutable_recall_done()->set_id(recalled.id());
  wrong.mutable_recall_done()->mutable_unwritten()->mutable_mtime()->set_nanos(2'000'000'000);
  EXPECT_EQ(call(a, wrong).error(), -static_cast<int>(Errc::invalid));
  EXPECT_FALSE(answered_now(b, waiting));
  finish(a, recalled);
  EXPECT_EQ(await(b, waiting).attr().lease(), pb::LEASE_READ);
  put_off(a, recalled, 1);  // answered already
  const uint64_t changing = send(b, lease_request(ino, pb::LEASE_WRITE));
  put_off(a, recall(a, false), 1);  // a reader has nothing to store
  EXPECT_FALSE(answered_now(b, changing));
}

}  // namespace
}  // namespace datacloud
