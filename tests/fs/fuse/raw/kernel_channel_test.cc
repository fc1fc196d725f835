// What is agreed with the kernel: the INIT reply of the real libfuse, as it leaves the channel.
#include "fs/fuse/raw/kernel_channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>
#include <string>
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

// What the kernel gets for statx: the attributes that libfuse has for getattr, and the birth.
struct Statx {
  uint64_t attr_valid;
  uint32_t attr_valid_nsec, flags;
  uint64_t spare[2];
  struct statx stat;
};

void answer_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  if (ino == 3) return (void)fuse_reply_err(req, ENOENT);
  struct stat st {};
  st.st_ino = ino;
  st.st_mode = S_IFCHR | 0640;
  st.st_nlink = 2;
  st.st_uid = 7;
  st.st_gid = 8;
  st.st_size = 1234;
  st.st_blocks = 3;
  st.st_blksize = 65536;
  st.st_rdev = makedev(300, 70'000);
  st.st_atim = {-5, 1};
  st.st_mtim = {6, 2};
  st.st_ctim = {7, 3};
  KernelChannel::tell_birth(ino == 4 ? 0 : ino == 5 ? -1 : 1'600'000'000'000'000'123);
  fuse_reply_attr(req, &st, 1.5);
}

TEST(KernelChannel, GivesStatxItsOwnForm) {
  User user({});
  fuse_lowlevel_ops ops{};
  ops.getattr = answer_getattr;
  FakeKernel kernel(ops, user);
  const auto ask = [&](uint32_t opcode, uint64_t unique, uint64_t node) {
    const struct {
      uint32_t getattr_flags, reserved;
      uint64_t fh;
      uint32_t sx_flags, sx_mask;
    } in{0, 0, 0, 0, STATX_BTIME};
    Bytes request = FakeKernel::message(opcode, unique, node, in);
    user.channel().received(request);
    fuse_buf buffer{};
    buffer.mem = request.data();
    buffer.size = request.size();
    fuse_session_process_buf(kernel.session(), &buffer);
    const auto reply = kernel.reply();
    EXPECT_TRUE(reply);
    EXPECT_EQ(reply->header.unique, unique);
    return *reply;
  };
  fuse_init_in init{};
  init.major = FUSE_KERNEL_VERSION;
  init.minor = FUSE_KERNEL_MINOR_VERSION;
  Bytes first = FakeKernel::message(FUSE_INIT, 1, 0, init);
  fuse_buf buffer{};
  buffer.mem = first.data();
  buffer.size = first.size();
  fuse_session_process_buf(kernel.session(), &buffer);
  ASSERT_TRUE(kernel.reply());

  const auto full = ask(52, 2, 9);
  ASSERT_EQ(full.body.size(), sizeof(Statx));
  ASSERT_EQ(full.header.len, sizeof(fuse_out_header) + sizeof(Statx));
  Statx got{};
  std::memcpy(&got, full.body.data(), sizeof got);
  EXPECT_EQ(got.attr_valid, 1u);
  EXPECT_EQ(got.attr_valid_nsec, 500'000'000u);
  EXPECT_EQ(got.stat.stx_mask & (STATX_BASIC_STATS | STATX_BTIME), STATX_BASIC_STATS | STATX_BTIME);
  EXPECT_EQ(got.stat.stx_ino, 9u);
  EXPECT_EQ(got.stat.stx_mode, S_IFCHR | 0640);
  EXPECT_EQ(got.stat.stx_nlink, 2u);
  EXPECT_EQ(got.stat.stx_uid, 7u);
  EXPECT_EQ(got.stat.stx_gid, 8u);
  EXPECT_EQ(got.stat.stx_size, 1234u);
  EXPECT_EQ(got.stat.stx_blocks, 3u);
  EXPECT_EQ(got.stat.stx_blksize, 65536u);
  EXPECT_EQ(got.stat.stx_rdev_major, 300u);
  EXPECT_EQ(got.stat.stx_rdev_minor, 70'000u);
  EXPECT_EQ(got.stat.stx_atime.tv_sec, -5);
  EXPECT_EQ(got.stat.stx_atime.tv_nsec, 1u);
  EXPECT_EQ(got.stat.stx_mtime.tv_sec, 6);
  EXPECT_EQ(got.stat.stx_ctime.tv_sec, 7);
  EXPECT_EQ(got.stat.stx_btime.tv_sec, 1'600'000'000);
  EXPECT_EQ(got.stat.stx_btime.tv_nsec, 123u);

  const auto unknown = ask(52, 3, 4);
  std::memcpy(&got, unknown.body.data(), sizeof got);
  EXPECT_FALSE(got.stat.stx_mask & STATX_BTIME) << "one that was not recorded";
  const auto early = ask(52, 4, 5);
  std::memcpy(&got, early.body.data(), sizeof got);
  EXPECT_EQ(got.stat.stx_btime.tv_sec, -1) << "before 1970";
  EXPECT_EQ(got.stat.stx_btime.tv_nsec, 999'999'999u);
  const auto failed = ask(52, 5, 3);
  EXPECT_EQ(failed.header.error, -ENOENT);
  EXPECT_TRUE(failed.body.empty());
  EXPECT_EQ(ask(FUSE_GETATTR, 6, 9).body.size(), sizeof(fuse_attr_out)) << "getattr stays as it is";
}

std::string created;
void note_create(fuse_req_t req, fuse_ino_t, const char* name, mode_t mode, fuse_file_info* fi) {
  created = std::string(name) + " " + std::to_string(mode) + " " + std::to_string(fi->flags);
  fuse_reply_err(req, EOPNOTSUPP);
}

TEST(KernelChannel, GivesTmpfileAsACreationWithNoName) {
  User user({});
  fuse_lowlevel_ops ops{};
  ops.create = note_create;
  FakeKernel kernel(ops, user);
  fuse_init_in init{};
  init.major = FUSE_KERNEL_VERSION;
  init.minor = FUSE_KERNEL_MINOR_VERSION;
  fuse_create_in in{};
  in.flags = 2;
  in.mode = S_IFREG | 0600;
  for (Bytes request :
       {FakeKernel::message(FUSE_INIT, 1, 0, init), FakeKernel::message(51, 2, 1, in, "/")}) {
    user.channel().received(request);
    fuse_buf buffer{};
    buffer.mem = request.data();
    buffer.size = request.size();
    fuse_session_process_buf(kernel.session(), &buffer);
    ASSERT_TRUE(kernel.reply());
  }
  EXPECT_EQ(created,
            std::string(KernelChannel::kUnnamed) + " " + std::to_string(S_IFREG | 0600) + " 2");
}

TEST(KernelChannel, LeavesOtherMessagesAlone) {
  User user({.flags = FUSE_PARALLEL_DIROPS});
  fuse_lowlevel_ops ops{};
  FakeKernel kernel(ops, user);
  fuse_in_header request{};
  request.len = sizeof request;
  request.opcode = FUSE_LOOKUP;
  request.unique = 7;
  user.channel().received({reinterpret_cast<uint8_t*>(&request), sizeof request});
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

struct SeenXattr {
  std::string name, value;
  int flags = 0;
  bool kills = false;
} seen_xattr;

void keep_xattr(fuse_req_t req, fuse_ino_t, const char* name, const char* value, size_t size,
                int flags) {
  seen_xattr = {name, std::string(value, size), flags, KernelChannel::kills_set_group_id()};
  fuse_reply_err(req, 0);
}

// A request as the kernel sends it once SETXATTR_EXT is agreed on, and before.
TEST(KernelChannel, GivesLibfuseTheShortFormOfSetxattr) {
  for (const bool agreed : {true, false}) {
    User user({.flags = FUSE_SETXATTR_EXT});
    fuse_lowlevel_ops ops{};
    ops.setxattr = keep_xattr;
    FakeKernel kernel(ops, user);
    const auto serve = [&](Bytes& request) {
      const MutableByteView shown = user.channel().received(request);
      fuse_buf buffer{};
      buffer.mem = shown.data();
      buffer.size = shown.size();
      fuse_session_process_buf(kernel.session(), &buffer);
      return kernel.reply();
    };
    fuse_init_in init{};
    init.major = FUSE_KERNEL_VERSION;
    init.minor = FUSE_KERNEL_MINOR_VERSION;
    init.flags = kUsual | (agreed ? FUSE_SETXATTR_EXT : 0);
    Bytes first = FakeKernel::message(FUSE_INIT, 1, 0, init);
    const auto reply = serve(first);
    ASSERT_TRUE(reply);
    fuse_init_out out{};
    std::memcpy(&out, reply->body.data(), std::min(sizeof out, reply->body.size()));
    EXPECT_EQ((out.flags & FUSE_SETXATTR_EXT) != 0, agreed);
    for (const bool kills : {true, false}) {
      const std::string rest("user.name\0the value", 19);  // of 9 bytes
      const fuse_setxattr_in in{.size = 9,
                                .flags = 2,
                                .setxattr_flags = kills ? FUSE_SETXATTR_ACL_KILL_SGID : 0u,
                                .padding = 0};
      struct Short {
        uint32_t size, flags;
      };
      Bytes request = agreed ? FakeKernel::message(FUSE_SETXATTR, 7, 5, in)
                             : FakeKernel::message(FUSE_SETXATTR, 7, 5, Short{in.size, in.flags});
      request.insert(request.end(), rest.begin(), rest.end());
      const auto size = static_cast<uint32_t>(request.size());
      std::memcpy(request.data(), &size, sizeof size);
      const auto done = serve(request);
      ASSERT_TRUE(done);
      EXPECT_EQ(done->header.unique, 7u);
      EXPECT_EQ(done->header.error, 0);
      EXPECT_EQ(seen_xattr.name, "user.name");
      EXPECT_EQ(seen_xattr.value, "the value");
      EXPECT_EQ(seen_xattr.flags, 2);
      EXPECT_EQ(seen_xattr.kills, agreed && kills);
    }
  }
}

}  // namespace
}  // namespace datacloud
