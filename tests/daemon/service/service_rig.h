// The metadata service with everything around it under a test's hand: connections, time, processes
// and sites (in memory) are fakes, the metadata store is real.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "common/audit/shard_tags.h"
#include "common/rpc/protocol_versions.h"
#include "common/store/memory_store.h"
#include "daemon/fsck/fsck.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {

// Runs what is due; its clock moves only when a test waits.
class FakeLoop final : public EventLoop {
 public:
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    if (!closed_) queue_.push_back(std::move(f));
  }
  void after(Duration delay, std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    if (!closed_) timers_.emplace(now_ + delay, std::move(f));
  }
  MonotonicTime now() override {
    std::lock_guard lock(mutex_);
    return now_;
  }
  // Runs one function that is due; false when there is none.
  bool run_one() {
    std::function<void()> f;
    {
      std::lock_guard lock(mutex_);
      if (!queue_.empty()) {
        f = std::move(queue_.front());
        queue_.pop_front();
      } else if (!timers_.empty() && timers_.begin()->first <= now_) {
        f = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
      } else {
        return false;
      }
    }
    f();
    return true;
  }
  void advance(Duration d) {
    std::lock_guard lock(mutex_);
    now_ += d;
  }
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    queue_.clear();
    timers_.clear();
  }

 private:
  std::mutex mutex_;
  std::deque<std::function<void()>> queue_;
  std::multimap<MonotonicTime, std::function<void()>> timers_;
  MonotonicTime now_ = MonotonicTime() + std::chrono::hours(1);
  bool closed_ = false;
};

class FakeProcesses final : public ProcessProbe {
 public:
  void identify(pid_t pid, pb::Session& session) override {
    session.set_pid(static_cast<uint32_t>(pid));
    session.set_process_start(static_cast<uint64_t>(pid) * 10);
    session.set_boot_id("boot");
  }
  bool gone(const pb::Session& session) override { return dead.count(session.pid()) > 0; }
  std::set<uint32_t> dead;
};

class FakeConnection final : public RpcConnection {
 public:
  explicit FakeConnection(pid_t pid) : peer_{pid, 0, 0} {}
  explicit FakeConnection(PeerCredentials peer) : peer_(std::move(peer)) {}
  const PeerCredentials& peer() const override { return peer_; }
  void reply(pb::Reply reply) override {
    if (!closed) replies.push_back(reply);
  }
  void reply_with(std::function<pb::Reply()> make) override { reply(make()); }
  void push(const pb::Push& push) override {
    if (closed) return;
    if (push.has_committed()) committed = push.committed();
    if (push.has_recall()) recalls.push_back(push.recall());
  }
  void close() override { closed = true; }

  std::vector<pb::Reply> replies;
  std::deque<pb::Recall> recalls;
  Sequence committed = 0;  // the newest that a push has told
  bool closed = false;

 private:
  PeerCredentials peer_;
};

class ServiceTest : public testing::Test {
 protected:
  static constexpr uint32_t kSites = 5;

  // A mount or the tool, as a peer of the service.
  struct Client {
    pid_t pid = 0;
    SessionId session = 0;
    uint64_t last_id = 0;
    Sequence sequence = 0;              // presented by the next hello
    std::vector<std::string> features;  // that its program knows
    std::string secret;                 // empty: of a program from before there were any
    uint32_t protocol = kProtocolOldest;
    std::vector<IdRange> inodes;  // numbers granted to it and not used
    std::shared_ptr<FakeConnection> connection;
    pb::HelloReply hello;
  };

  void SetUp() override {
    char name[] = "/tmp/datacloud-service-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    cloud_.set_uuid("00000000-0000-4000-8000-000000000001");
    cloud_.set_name("test");
    cloud_.set_write_sites_min(3);
    cloud_.mutable_root_policy()->set_code("rs-3-2");
    cloud_.mutable_root_policy()->set_block_bytes(4096);
    for (uint32_t i = 1; i <= kSites; ++i) {
      auto* site = cloud_.add_sites();
      site->set_id(i);
      site->set_name("site" + std::to_string(i));
    }
    config_.state = root_;
    config_.lease_ms = 600'000;  // tests wait on a clock of their own, briefly
    config_.leases_max = 10'000;
    const auto made = MetadataStore::create({.directory = root_ + "/meta"}, cloud_, 0, 0);
    ASSERT_TRUE(made) << made.error().message();
    start();
  }
  void TearDown() override {
    expect_sound();
    stop();
    std::filesystem::remove_all(root_);
  }

  virtual std::unique_ptr<ObjectStore> open_site(SiteId site) {
    return make_memory_store(memory_[site - 1]);
  }
  // What a test's service is made of besides.
  virtual void adapt(MetadataService::Dependencies&) {}
  void start() {
    auto opened = MetadataStore::open({.directory = root_ + "/meta"});
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(opened).value();
    std::vector<SiteSet::Member> members;
    for (uint32_t i = 1; i <= kSites; ++i) {
      members.push_back({i, "site" + std::to_string(i), open_site(i)});
    }
    sites_ = std::make_unique<SiteSet>(std::move(members), milliseconds(20));
    loop_ = std::make_shared<FakeLoop>();
    MetadataService::Dependencies dependencies{
        .store = *store_,
        .sites = *sites_,
        .loop = loop_,
        .processes = processes_,
        .cloud = cloud_,
        .config = config_,
        .name_key = Bytes(16, 7),
        .code = make_erasure_code("rs-3-2").value(),
        .site_locations = {},
        .audit_keys = ShardTags::derive_keys(service_key_, cloud_),
        .audit_signer =
            std::make_shared<const SigningKey>(derive_audit_signer(service_key_, cloud_.uuid())),
        .authority = authority_,
        .refusals = std::make_shared<PeerRefusals>(),
        .fatal = [](const Error& e) { ADD_FAILURE() << "fatal: " << e.message(); },
    };
    adapt(dependencies);
    service_ = std::make_unique<MetadataService>(std::move(dependencies));
    const auto started = service_->start();
    ASSERT_TRUE(started) << started.error().message();
  }
  void stop() {
    loop_->close();
    service_.reset();
    store_.reset();
    sites_.reset();
  }
  // As kill -9 and a new start; connections are gone.
  void restart() {
    stop();
    start();
  }
  void expect_sound() {
    const auto findings = check_block_map(store_->begin());
    ASSERT_TRUE(findings) << findings.error().message();
    EXPECT_THAT(findings.value(), testing::IsEmpty());
    // fsck finds nothing wrong with what the service makes.
    RecordCheckProgress progress;
    const auto fsck = LocalFsck(*store_).check(progress);
    ASSERT_TRUE(fsck) << fsck.error().message();
    EXPECT_EQ(fsck.value().findings_total(), 0u) << fsck.value().DebugString();
  }

  // Runs the loop until the condition holds; its clock moves by a few milliseconds meanwhile,
  // unless it stands.
  template <class Condition>
  bool until(const Condition& condition) {
    const auto end = monotonic_now() + seconds(20);
    while (!condition()) {
      if (loop_->run_one()) continue;
      if (monotonic_now() > end) return false;
      if (!clock_stands_) loop_->advance(milliseconds(1));
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return true;
  }
  bool clock_stands_ = false;
  void run_for(Duration d) {
    for (auto left = d; left > Duration::zero(); left -= milliseconds(100)) {
      while (loop_->run_one()) {
      }
      loop_->advance(milliseconds(100));
    }
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(milliseconds(1));
      while (loop_->run_one()) {
      }
    }
  }

  void connect(Client& client, pb::ClientKind kind = pb::CLIENT_MOUNT,
               std::vector<pb::HeldLease> leases = {}) {
    client.connection = std::make_shared<FakeConnection>(client.pid);
    pb::Request request;
    auto* hello = request.mutable_hello();
    hello->set_protocol(client.protocol);
    hello->set_protocol_min(kProtocolOldest);
    hello->mutable_session()->set_secret(client.secret);
    for (const auto& unused : client.inodes) {
      auto* range = hello->add_inodes();
      range->set_first(unused.first);
      range->set_count(unused.count);
    }
    hello->set_kind(kind);
    hello->mutable_session()->set_id(client.session);
    hello->set_sequence(client.sequence);
    for (const auto& name : client.features) hello->mutable_session()->add_features(name);
    for (const auto& lease : leases) *hello->add_leases() = lease;
    service_->on_request(client.connection, request);
    ASSERT_TRUE(until([&] { return !client.connection->replies.empty(); }));
    const pb::Reply reply = client.connection->replies.front();
    client.connection->replies.clear();
    ASSERT_EQ(reply.error(), 0) << reply.error_text();
    client.hello = reply.hello();
    client.session = reply.hello().session();
  }
  Client mount(pid_t pid, std::vector<std::string> features = {}) {
    Client client;
    client.pid = pid;
    client.features = std::move(features);
    connect(client);
    return client;
  }
  // A mount of today: known by a secret, comes back after its session has ended.
  Client mount_with_secret(pid_t pid) {
    Client client;
    client.pid = pid;
    client.secret = "secret of the mount " + std::to_string(pid);
    client.protocol = kProtocolNewest;
    connect(client);
    return client;
  }
  Client tool() {
    Client client;
    client.pid = 1;
    connect(client, pb::CLIENT_TOOL);
    return client;
  }
  void disconnect(Client& client) {
    client.connection->closed = true;
    service_->on_disconnect(client.connection);
  }

  uint64_t send(Client& client, pb::Request request) {
    request.set_id(++client.last_id);
    service_->on_request(client.connection, request);
    return client.last_id;
  }
  static constexpr size_t kRepliesKept = 1000;
  bool answered(const Client& client, uint64_t id) const {
    return std::any_of(client.connection->replies.begin(), client.connection->replies.end(),
                       [&](const auto& r) { return r.id() == id; });
  }
  // Runs what is due without letting time pass.
  bool answered_now(const Client& client, uint64_t id) {
    while (loop_->run_one()) {
    }
    return answered(client, id);
  }
  pb::Reply await(Client& client, uint64_t id) {
    EXPECT_TRUE(until([&] { return answered(client, id); })) << "request " << id;
    for (const auto& reply : client.connection->replies) {
      if (reply.id() == id) return reply;
    }
    return {};
  }
  pb::Reply call(Client& client, pb::Request request) {
    const auto reply = await(client, send(client, std::move(request)));
    // Every reply is looked for among all: long tests keep the newest.
    auto& replies = client.connection->replies;
    if (replies.size() > kRepliesKept) replies.erase(replies.begin(), replies.end() - 1);
    return reply;
  }
  // The next recall pushed to the client, answered unless `answer` is false.
  pb::Recall recall(Client& client, bool answer = true) {
    EXPECT_TRUE(until([&] { return !client.connection->recalls.empty(); })) << "no recall";
    if (client.connection->recalls.empty()) return {};
    const pb::Recall recall = client.connection->recalls.front();
    client.connection->recalls.pop_front();
    if (answer) finish(client, recall);
    return recall;
  }
  void finish(Client& client, const pb::Recall& recall) {
    pb::Request request;
    request.mutable_recall_done()->set_id(recall.id());
    EXPECT_EQ(call(client, request).error(), 0);
  }

  static pb::Request create_request(const std::string& name, InodeId parent = kRootInode,
                                    uint32_t mode = S_IFREG | 0644) {
    pb::Request request;
    auto* create = request.mutable_create();
    create->set_parent(parent);
    create->set_name(name);
    create->set_mode(mode);
    create->set_now_ns(1);
    create->set_exclusive(true);
    return request;
  }
  static pb::Request lookup_request(const std::string& name, InodeId parent = kRootInode) {
    pb::Request request;
    request.mutable_lookup()->set_parent(parent);
    request.mutable_lookup()->set_name(name);
    return request;
  }
  static pb::Request lease_request(InodeId ino, pb::LeaseMode mode, bool open = false) {
    pb::Request request;
    request.mutable_lease()->set_ino(ino);
    request.mutable_lease()->set_mode(mode);
    request.mutable_lease()->set_open(open);
    return request;
  }
  static pb::Request release_request(InodeId ino, pb::LeaseMode mode = pb::LEASE_NONE,
                                     bool open = false) {
    pb::Request request;
    *request.mutable_release()->add_leases() = held(ino, mode, open);
    return request;
  }
  static pb::Request unlink_request(const std::string& name) {
    pb::Request request;
    request.mutable_unlink()->set_parent(kRootInode);
    request.mutable_unlink()->set_name(name);
    return request;
  }
  static pb::HeldLease held(InodeId ino, pb::LeaseMode mode, bool open = false) {
    pb::HeldLease lease;
    lease.set_ino(ino);
    lease.set_mode(mode);
    lease.set_open(open);
    return lease;
  }
  static pb::Request gc_request() {
    pb::Request request;
    request.mutable_gc()->set_wait(true);
    return request;
  }

  uint64_t grant(Client& client, IdKind kind, uint32_t count = 100) {
    pb::Request request;
    request.mutable_grant()->set_kind(static_cast<uint32_t>(kind));
    request.mutable_grant()->set_count(count);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return reply.grant().first();
  }
  InodeId create(Client& client, const std::string& name, bool open = false) {
    auto request = create_request(name);
    request.mutable_create()->set_open(open);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return reply.attr().inode().ino();
  }
  std::string object_name(const ShardName& name) const {
    return ShardNamer(Bytes(16, 7)).object_name(name);
  }
  void put_object(SiteId site, const std::string& name, size_t bytes = 100) {
    const auto stored = wait_for<void>([&](Callback<void> done) {
      sites_->find(site)->store().put(name, Payload::from(Bytes(bytes, 1)), {}, {}, done);
    });
    EXPECT_TRUE(stored) << stored.error().message();
  }
  bool object_exists(SiteId site, const std::string& name) const {
    const auto names = memory_[site - 1].names();
    return std::find(names.begin(), names.end(), name) != names.end();
  }

  // One block of 100 sealed bytes in column 0, two parity shards, put at the sites.
  pb::Stripe put_stripe(StripeId id, InstanceId first_instance) {
    pb::Stripe stripe;
    stripe.set_id(id);
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(100);
    stripe.add_slot_column(0);
    stripe.add_slot_offset(0);
    stripe.add_slot_length(100);
    for (uint32_t c = 0; c < 5; ++c) {
      auto* shard = stripe.add_shards();
      shard->set_site(c + 1);
      shard->set_home_site(c + 1);
      if (c == 1 || c == 2) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_instance(first_instance + c);
      shard->set_bytes(100);
      put_object(c + 1, object_name({id, static_cast<uint8_t>(c), first_instance + c}));
    }
    return stripe;
  }
  static pb::Request commit_request(const pb::Stripe& stripe, InodeId ino, uint64_t version,
                                    uint64_t block = 0) {
    pb::Request request;
    auto* commit = request.mutable_commit();
    *commit->add_stripes() = stripe;
    auto* update = commit->add_updates();
    update->set_ino(ino);
    update->set_grow_to((block + 1) * 4096);
    auto* run = update->add_runs();
    run->set_first_block(block);
    run->set_count(1);
    run->set_stripe(stripe.id());
    run->set_version(version);
    return request;
  }
  static std::vector<pb::UpdateOutcome::Outcome> outcomes(const pb::Reply& reply) {
    std::vector<pb::UpdateOutcome::Outcome> all;
    for (const auto& outcome : reply.commit().outcomes()) all.push_back(outcome.outcome());
    return all;
  }
  // Grants ids, puts a stripe and commits one block of the file.
  pb::Stripe write_block(Client& client, InodeId ino, uint64_t block = 0) {
    const auto stripe =
        put_stripe(grant(client, IdKind::stripe, 1), grant(client, IdKind::instance, 5));
    const auto reply =
        call(client, commit_request(stripe, ino, grant(client, IdKind::version, 1), block));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return stripe;
  }
  size_t objects() const {
    size_t sum = 0;
    for (const auto& site : memory_) sum += site.object_count();
    return sum;
  }

  const SecretKey service_key_ = SecretKey(Bytes(32, 5));
  const std::shared_ptr<const CertificateAuthority> authority_ =
      std::make_shared<const CertificateAuthority>(
          CertificateAuthority::derive(service_key_, "00000000-0000-4000-8000-000000000001"));
  std::string root_;
  pb::Cloud cloud_;
  DaemonConfig config_;
  FakeProcesses processes_;
  std::array<MemoryStoreControl, kSites> memory_;
  std::unique_ptr<MetadataStore> store_;
  std::unique_ptr<SiteSet> sites_;
  std::shared_ptr<FakeLoop> loop_;
  std::unique_ptr<MetadataService> service_;
};

}  // namespace datacloud
