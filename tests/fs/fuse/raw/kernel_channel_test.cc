// What is agreed with the kernel: the INIT reply of the real libfuse, as it leaves the channel.
#include "fs/fuse/raw/kernel_channel.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "tests/fs/fuse/raw/fake_kernel.h"

namespace datacloud {
namespace {

struct User {
  explicit User(InitAmendment wanted) : channel_(wanted) {}
  KernelChannel& channel() { return channel_; }
  KernelChannel channel_;
};

// INIT is answered by libfuse; the request is shown to the channel as the loop does.
fuse_init_out agree(uint32_t offered, uint32_t offered2, InitAmendment wanted) {
  User user(wanted);
  fuse_lowlevel_ops ops{};
  FakeKernel kernel(ops, user);
  fuse_init_in in{};
  in.major = FUSE_KERNEL_VERSION;
  in.minor = FUSE_KERNEL_MINOR_VERSION;
  in.max_readahead = 1 << 20;
  in.flags = offered;
  in.flags2 = offered2;
  Bytes request = FakeKernel::message(FUSE_INIT, 2, 0, in);
  user.channel().received(request);
  fuse_buf buffer{};
  buffer.mem = request.data();
  buffer.size = request.size();
  fuse_session_process_buf(kernel.session(), &buffer);
  const auto reply = kernel.reply();
  fuse_init_out out{};
  if (!reply) {
    ADD_FAILURE() << "no reply to INIT";
    return out;
  }
  EXPECT_EQ(reply->header.error, 0);
  EXPECT_EQ(reply->header.len, sizeof(fuse_out_header) + reply->body.size());
  std::memcpy(&out, reply->body.data(), std::min(sizeof out, reply->body.size()));
  return out;
}

constexpr uint32_t kUsual = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_INIT_EXT;

TEST(KernelChannel, AddsWhatTheKernelOffersAndNothingElse) {
  const uint32_t wanted = FUSE_PARALLEL_DIROPS;
  const auto plain = agree(kUsual | FUSE_PARALLEL_DIROPS, 0, {});
  EXPECT_FALSE(plain.flags & FUSE_PARALLEL_DIROPS);
  const auto amended = agree(kUsual | FUSE_PARALLEL_DIROPS, 0, {.flags = wanted});
  EXPECT_TRUE(amended.flags & FUSE_PARALLEL_DIROPS);
  EXPECT_EQ(amended.flags & ~wanted, plain.flags);
  EXPECT_EQ(amended.minor, plain.minor);
  EXPECT_EQ(amended.max_write, plain.max_write);
  EXPECT_EQ(amended.max_pages, plain.max_pages);
  const auto refused = agree(kUsual, 0, {.flags = wanted});
  EXPECT_EQ(refused.flags, plain.flags);
}

TEST(KernelChannel, TellsTheKernelOfTheSecondWordOfFlags) {
  constexpr uint32_t kBit = 1u << 4;
  const auto amended = agree(kUsual, kBit | 1, {.flags2 = kBit | 2});
  EXPECT_TRUE(amended.flags & FUSE_INIT_EXT);
  EXPECT_EQ(amended.flags2, kBit);
  // A kernel before INIT_EXT has sent no second word, whatever stands there.
  const auto old = agree(kUsual & ~uint32_t{FUSE_INIT_EXT}, kBit, {.flags2 = kBit});
  EXPECT_EQ(old.flags2, 0u);
}

TEST(KernelChannel, LeavesOtherMessagesAlone) {
  User user({.flags = FUSE_PARALLEL_DIROPS});
  fuse_lowlevel_ops ops{};
  FakeKernel kernel(ops, user);
  fuse_in_header request{};
  request.len = sizeof request;
  request.opcode = FUSE_LOOKUP;
  request.unique = 7;
  user.channel().received(ByteView(reinterpret_cast<const uint8_t*>(&request), sizeof request));
  fuse_out_header header{};
  fuse_init_out body{};
  header.len = sizeof header + sizeof body;
  header.unique = 7;
  const iovec parts[] = {{&header, sizeof header}, {&body, sizeof body}};
  user.channel().send(fuse_session_fd(kernel.session()), parts, 2);
  const auto reply = kernel.reply();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->body, Bytes(sizeof body, 0));
}

// Node ids in a request after the channel has put the root's own number there: the header's, and
// the first of the body.
std::pair<uint64_t, uint64_t> named(uint32_t opcode, uint64_t node, uint64_t in_body) {
  KernelChannel channel({});
  channel.set_root(4711);
  Bytes request = FakeKernel::message(opcode, 7, node, in_body);
  channel.name_root(request);
  fuse_in_header header{};
  std::memcpy(&header, request.data(), sizeof header);
  uint64_t body = 0;
  std::memcpy(&body, request.data() + sizeof header, sizeof body);
  return {header.nodeid, body};
}

TEST(KernelChannel, ADirectoryCanBeTheRoot) {
  using Ids = std::pair<uint64_t, uint64_t>;
  EXPECT_EQ(named(FUSE_GETATTR, 1, 1), (Ids{4711, 1}));
  EXPECT_EQ(named(FUSE_GETATTR, 12, 1), (Ids{12, 1}));
  EXPECT_EQ(named(FUSE_RENAME, 12, 1), (Ids{12, 4711}));
  EXPECT_EQ(named(FUSE_RENAME2, 1, 1), (Ids{4711, 4711}));
  EXPECT_EQ(named(FUSE_RENAME2, 1, 13), (Ids{4711, 13}));
  EXPECT_EQ(named(FUSE_LINK, 1, 1), (Ids{4711, 1})) << "a link's file is no directory";
  KernelChannel channel({});
  channel.set_root(4711);
  Bytes cut(10, 1);
  channel.name_root(cut);
  EXPECT_EQ(cut, Bytes(10, 1));
}

}  // namespace
}  // namespace datacloud
