// The daemon holds back what shows another mount's changes until they are durable. Answers to
// changes of this mount, and recalls, leave at once and so overtake a listing that was made before
// them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <deque>
#include <string>
#include <utility>

#include "fs/file/metadata_client.h"

namespace datacloud {
namespace {

constexpr InodeId kDirectory = 5;

// Answers when it is told to.
class SlowDaemon final : public RpcSession {
 public:
  void call(pb::Request, Callback done) override { waiting.push_back(std::move(done)); }
  void call_until_known(pb::Request request, Callback callback, Callback) override {
    call(std::move(request), std::move(callback));
  }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return monotonic_now() + seconds(60); }

  std::deque<Callback> waiting;
};

pb::Inode inode_of(InodeId ino, uint32_t mode) {
  pb::Inode inode;
  inode.set_ino(ino);
  inode.set_mode(mode);
  inode.set_nlink(1);
  return inode;
}

class OvertakenListing : public testing::Test {
 protected:
  OvertakenListing() {
    const uint64_t ticket = table_.begin_request();
    directory_ =
        table_.apply(inode_of(kDirectory, S_IFDIR | 0755), pb::LEASE_READ, false, 1, 1, ticket);
    table_.end_request(ticket);
  }

  void ask(pb::Request request) {
    client_.ask(std::move(request), seconds(60), [](const auto&) {});
  }
  void ask_listing() {
    pb::Request request;
    request.mutable_readdir()->set_ino(kDirectory);
    request.mutable_readdir()->set_plus(true);
    ask(std::move(request));
  }
  void make(const std::string& name) {
    pb::Request request;
    request.mutable_create()->set_parent(kDirectory);
    request.mutable_create()->set_name(name);
    ask(std::move(request));
  }
  void answer(size_t which, pb::Reply reply) {
    auto done = std::move(daemon_.waiting.at(which));
    daemon_.waiting.erase(daemon_.waiting.begin() + static_cast<std::ptrdiff_t>(which));
    done(std::move(reply));
  }
  static pb::Reply listing_of(const std::string& name) {
    pb::Reply reply;
    auto& page = *reply.mutable_readdir();
    page.set_lease(pb::LEASE_READ);
    page.set_end(true);
    page.set_end_cookie(9);
    auto* item = page.add_items();
    item->set_name(name);
    item->mutable_entry()->set_ino(20);
    item->mutable_entry()->set_cookie(1);
    return reply;
  }
  static pb::Reply made() {
    pb::Reply reply;
    *reply.mutable_attr()->mutable_inode() = inode_of(21, S_IFREG | 0644);
    return reply;
  }
  bool known_absent(const std::string& name) {
    const auto known = client_.known_entry(directory_, name);
    return known && !*known;
  }

  SlowDaemon daemon_;
  InodeTable table_;
  MetadataClient client_{daemon_, table_};
  InodePtr directory_;
};

TEST_F(OvertakenListing, OneInOrderTellsWhatIsAbsent) {
  make("new");
  answer(0, made());
  ask_listing();
  answer(0, listing_of("old"));
  EXPECT_TRUE(known_absent("other"));
  EXPECT_FALSE(known_absent("old"));
}

TEST_F(OvertakenListing, AFileOfOnesOwnThatWasMadeMeanwhileIsNotAbsent) {
  ask_listing();
  make("new");
  answer(1, made());
  answer(0, listing_of("old"));
  EXPECT_FALSE(known_absent("new"));
  // The next one tells all names again.
  ask_listing();
  answer(0, listing_of("new"));
  EXPECT_FALSE(known_absent("new"));
  EXPECT_TRUE(known_absent("other"));
}

TEST_F(OvertakenListing, NorIsOneOfAnotherMountThatWasToldMeanwhile) {
  ask_listing();
  table_.forget_names(kDirectory, {"new"});  // as a recall does
  answer(0, listing_of("old"));
  EXPECT_FALSE(known_absent("new"));
}

TEST_F(OvertakenListing, TheListingOfASubdirectoryIsJudgedByItself) {
  pb::Request request;
  request.mutable_readdir()->set_ino(6);
  request.mutable_readdir()->set_plus(true);
  ask(std::move(request));
  make("new");
  answer(1, made());
  pb::Reply reply = listing_of("sub");
  auto* below = reply.mutable_readdir()->add_below();
  below->set_ino(kDirectory);
  *below->mutable_listing() = listing_of("old").readdir();
  answer(0, std::move(reply));
  EXPECT_FALSE(known_absent("new"));
}

}  // namespace
}  // namespace datacloud
