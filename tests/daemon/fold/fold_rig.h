// Background work over real stripes at memory sites, without the service: the metadata are real,
// the loop is a thread, and every operation of an object can fail or be the last one.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <future>
#include <random>
#include <set>
#include <thread>

#include "common/store/memory_store.h"
#include "common/stripe/stripe_layout.h"
#include "daemon/audit/stripe_audit.h"
#include "daemon/fold/parity_fold.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/repair/stripe_repair.h"
#include "daemon/scrub/garbage_collector.h"
#include "daemon/scrub/garbage_scrub.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {

class ThreadLoop final : public EventLoop {
 public:
  ThreadLoop() : thread_([this] { run(); }) {}
  ~ThreadLoop() override { stop(); }
  // Nothing runs any more; what is posted stays undone.
  void stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }
  void post(std::function<void()> f) override { after(Duration::zero(), std::move(f)); }
  void after(Duration delay, std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    timers_.emplace(monotonic_now() + delay, std::move(f));
    changed_.notify_all();
  }
  MonotonicTime now() override { return monotonic_now(); }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (timers_.empty()) {
        changed_.wait(lock);
      } else if (timers_.begin()->first > monotonic_now()) {
        changed_.wait_until(lock, timers_.begin()->first);
      } else {
        auto f = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
        lock.unlock();
        f();
        f = nullptr;
        lock.lock();
      }
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<MonotonicTime, std::function<void()>> timers_;
  bool stop_ = false;
  std::thread thread_;
};

// After the crash nothing is committed, and nobody minds.
class CrashingCommitter final : public Committer {
 public:
  CrashingCommitter(MetadataStore& store, std::shared_ptr<EventLoop> loop,
                    const std::atomic<bool>& crashed)
      : local_(store, std::move(loop), [](const Error&) {}), crashed_(crashed) {}
  result<void> apply(Transaction&& txn) override {
    if (crashed_) return failure(Errc::io, "crashed");
    return local_.apply(std::move(txn));
  }
  void when_committed(std::function<void()> f) override { local_.when_committed(std::move(f)); }
  void when_durable(std::function<void()> f) override { local_.when_durable(std::move(f)); }
  result<void> wait_durable(Duration deadline) override { return local_.wait_durable(deadline); }

 private:
  LocalCommitter local_;
  const std::atomic<bool>& crashed_;
};

class FoldRig : public testing::Test {
 protected:
  struct Placed {  // a block to be written: its number and contents
    uint64_t block = 0;
    Bytes contents;
  };

  void TearDown() override { close(); }

  // A new cloud with as many sites as the code has columns, and one file.
  void make_cloud(const std::string& profile) {
    close();
    profile_ = profile;
    code_ = make_erasure_code(profile).value();
    char name[] = "/tmp/datacloud-fold-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    memory_.assign(static_cast<size_t>(code_->n()), MemoryStoreControl());
    for (auto& control : memory_) control = MemoryStoreControl();
    pb::Cloud cloud;
    cloud.set_uuid("00000000-0000-4000-8000-000000000001");
    cloud.set_name("test");
    cloud.mutable_root_policy()->set_code(profile);
    cloud.mutable_root_policy()->set_block_bytes(4096);
    for (int i = 1; i <= code_->n(); ++i) {
      cloud.add_sites()->set_id(static_cast<uint32_t>(i));
      cloud.mutable_sites(i - 1)->set_name("site" + std::to_string(i));
    }
    cloud_ = cloud;
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
    ASSERT_TRUE(MetadataStore::create({.directory = root_ + "/meta"}, cloud, 0, 0));
    expected_.clear();
    open();
    pb::CreateRequest request;
    request.set_parent(kRootInode);
    request.set_name("file");
    request.set_mode(S_IFREG | 0644);
    request.set_exclusive(true);
    commit([&](Transaction& txn) { return create(txn, request, kFile); });
  }

  virtual std::unique_ptr<ObjectStore> open_site(SiteId site) {
    return make_memory_store(memory_[site - 1]);
  }
  // Everything of the daemon that is not in its records: made anew by a restart.
  void open() {
    crashed_ = false;
    operations_ = 0;
    operations_max_ = UINT64_MAX;
    store_ = MetadataStore::open({.directory = root_ + "/meta"}).value();
    std::vector<SiteSet::Member> members;
    for (uint32_t i = 1; i <= memory_.size(); ++i) {
      members.push_back(
          {i, "site" + std::to_string(i),
           make_fault_store(open_site(i), [this, i](StoreOp op, const std::string& object) {
             return fault(i, op, object);
           })});
    }
    sites_ = std::make_unique<SiteSet>(std::move(members), seconds(60));
    loop_ = std::make_shared<ThreadLoop>();
    ranges_ = std::make_unique<IdRanges>();
    committer_ = std::make_unique<CrashingCommitter>(*store_, loop_, crashed_);
    collector_ = std::make_unique<GarbageCollector>(*store_, *committer_, *sites_, namer_, loop_);
    scrub_ = std::make_unique<GarbageScrub>(*store_, *committer_, *sites_, namer_, *ranges_, loop_);
    background_ = std::make_unique<Background>(loop_, Background::Limits{2, 0});
    context_ = std::make_unique<BackgroundContext>(BackgroundContext{
        .threads = *background_,
        .store = *store_,
        .committer = *committer_,
        .sites = *sites_,
        .namer = namer_,
        .tags = tags_,
        .duties = [] { return SiteDuties(); },
        .grant = [this](Transaction& txn, IdKind kind,
                        uint32_t n) { return ranges_->grant(txn, kDaemonSession, kind, n); },
        .revoke = [this](Transaction& txn, IdKind kind,
                         uint64_t id) { ranges_->revoke(txn, kDaemonSession, kind, id); },
        .collect = [] {},
    });
    ids_ = std::make_unique<BackgroundIds>(*context_);
    on_loop([this] {
      auto txn = store_->begin();
      EXPECT_TRUE(ranges_->open(txn, [](SessionId) { return IdRanges::Keeps::nothing; }));
      EXPECT_TRUE(scrub_->open(txn));
      scrub_->make_due(txn);
      EXPECT_TRUE(store_->commit(std::move(txn)));
    });
  }
  void close() {
    if (!store_) return;
    stop_all();
    ids_.reset();
    context_.reset();
    background_.reset();
    loop_.reset();
    sites_.reset();
    scrub_.reset();
    collector_.reset();
    committer_.reset();
    store_.reset();
  }
  // Before what runs on the loop goes; nothing of the rig can be asked afterwards. The loop first:
  // what jobs have it run refers to what they hold.
  void stop_all() {
    loop_->stop();
    background_->stop();
  }
  void remove_cloud() {
    close();
    std::filesystem::remove_all(root_);
  }
  // kill -9 and a new start.
  void restart() {
    close();
    open();
  }

  void on_loop(const std::function<void()>& f) {
    std::promise<void> done;
    loop_->post([&] {
      f();
      done.set_value();
    });
    done.get_future().get();
  }
  template <class Change>
  void commit(const Change& change) {
    on_loop([&] {
      auto txn = store_->begin();
      const auto changed = change(txn);
      ASSERT_TRUE(changed) << changed.error().message();
      ASSERT_TRUE(store_->commit(std::move(txn)));
    });
  }
  uint64_t take(IdKind kind, uint32_t count) {
    uint64_t first = 0;
    commit([&](Transaction& txn) -> result<void> {
      TRY(const auto range, ranges_->grant(txn, 1, kind, count));
      first = range.first;
      return success();
    });
    return first;
  }

  Bytes random_bytes(size_t n) {
    Bytes bytes(n);
    for (auto& b : bytes) b = static_cast<uint8_t>(random_());
    return bytes;
  }
  std::vector<Placed> random_blocks(uint64_t first, size_t count, size_t bytes) {
    std::vector<Placed> blocks;
    for (size_t i = 0; i < count; ++i) blocks.push_back({first + i, random_bytes(bytes)});
    return blocks;
  }

  // As a mount writes them: a stripe of these blocks, durable, then mapped in one transaction.
  StripeId write(const std::vector<Placed>& blocks) {
    std::vector<uint32_t> lengths;
    for (const auto& b : blocks) lengths.push_back(static_cast<uint32_t>(b.contents.size()));
    const auto layout = lay_out_stripe(lengths, code_->k(), code_->packets(), 0).value();
    const StripeId id = take(IdKind::stripe, 1);
    const InstanceId instance = take(IdKind::instance, static_cast<uint32_t>(code_->n()));
    const ContentVersion version = take(IdKind::version, static_cast<uint32_t>(blocks.size()));
    std::vector<Bytes> columns(static_cast<size_t>(code_->n()), Bytes(layout.parity_length));
    pb::Stripe stripe;
    stripe.set_id(id);
    stripe.set_code(profile_);
    stripe.set_parity_bytes(layout.parity_length);
    stripe.set_shard_bytes(shard_bytes_);
    stripe.set_home_site(home_site_);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const Slot& slot = layout.slots[i];
      std::copy(blocks[i].contents.begin(), blocks[i].contents.end(),
                columns[slot.column].begin() + slot.offset);
      stripe.add_slot_column(slot.column);
      stripe.add_slot_offset(slot.offset);
      stripe.add_slot_length(slot.length);
    }
    std::vector<ByteView> data;
    std::vector<MutableByteView> parity;
    for (int c = 0; c < code_->n(); ++c) {
      auto& column = columns[static_cast<size_t>(c)];
      if (c < code_->k()) {
        data.emplace_back(column);
      } else {
        parity.emplace_back(column);
      }
    }
    code_->encode(data, parity);
    for (int c = 0; c < code_->n(); ++c) {
      auto& column = columns[static_cast<size_t>(c)];
      if (c < code_->k()) column.resize(layout.data_lengths[static_cast<size_t>(c)]);
      auto* shard = stripe.add_shards();
      shard->set_site(static_cast<SiteId>(c + 1));
      shard->set_home_site(shard->site());
      if (column.empty()) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_bytes(static_cast<uint32_t>(column.size()));
      shard->set_instance(instance + static_cast<uint64_t>(c));
      put_object(shard->site(), {id, static_cast<uint8_t>(c), shard->instance()}, column);
    }
    commit([&](Transaction& txn) -> result<void> {
      TRY(add_stripe(txn, stripe));
      for (size_t i = 0; i < blocks.size(); ++i) {
        pb::InodeUpdate update;
        update.set_ino(kFile);
        update.set_grow_to((blocks[i].block + 1) * 4096);
        auto* run = update.add_runs();
        run->set_first_block(blocks[i].block);
        run->set_count(1);
        run->set_stripe(id);
        run->set_first_slot(static_cast<uint32_t>(i));
        run->set_version(version + i);
        TRY(update_inode(txn, update));
      }
      return success();
    });
    for (const auto& b : blocks) expected_[b.block] = b.contents;
    return id;
  }
  void put_object(SiteId site, const ShardName& name, const Bytes& bytes) {
    const auto store = make_memory_store(memory_[site - 1]);
    const auto stored = wait_for<void>([&](Callback<void> done) {
      store->put(namer_.object_name(name), Payload::from(bytes),
                 tags_.make(site, name, {ByteView(bytes)}), {}, done);
    });
    ASSERT_TRUE(stored) << stored.error().message();
  }

  std::optional<pb::Stripe> record(StripeId id) {
    std::optional<pb::Stripe> stripe;
    on_loop([&] { stripe = get_stripe(store_->begin(), id).value(); });
    return stripe;
  }
  std::string object_name(const pb::Stripe& stripe, int column) const {
    return namer_.object_name(
        {stripe.id(), static_cast<uint8_t>(column), stripe.shards(column).instance()});
  }
  // What the site holds, whatever its health.
  std::optional<Bytes> object(const pb::Stripe& stripe, int column) {
    const auto store = make_memory_store(memory_[stripe.shards(column).site() - 1]);
    auto reply = wait_for<ReadReply>([&](Callback<ReadReply> done) {
      store->read(object_name(stripe, column), {{0, UINT64_MAX}}, false, {}, done);
    });
    if (!reply) return std::nullopt;
    return std::move(reply.value().ranges[0]);
  }

  // A reader without caches, who knows only the records: every block of the file is what was
  // written last, under every loss of up to the tolerance.
  void expect_readable() {
    std::map<uint64_t, pb::Run> runs;
    std::map<StripeId, pb::Stripe> stripes;
    on_loop([&] {
      const auto txn = store_->begin();
      for (const auto& [block, contents] : expected_) {
        const auto found = runs_of(txn, kFile, block, 1).value();
        ASSERT_EQ(found.size(), 1u) << "block " << block;
        runs[block] = found[0];
        stripes[found[0].stripe()] = get_stripe(txn, found[0].stripe()).value().value();
      }
      const auto findings = check_block_map(txn);
      ASSERT_TRUE(findings);
      for (const auto& f : findings.value()) ADD_FAILURE() << f;
    });
    if (testing::Test::HasFailure()) return;
    for (const auto& [id, stripe] : stripes) {
      std::map<int, Bytes> columns;
      for (int c = 0; c < code_->n(); ++c) {
        if (stripe.shards(c).state() == pb::SHARD_EMPTY) continue;
        auto bytes = object(stripe, c);
        ASSERT_TRUE(bytes) << "stripe " << id << " column " << c;
        columns[c] = std::move(*bytes);
      }
      for (ColumnSet lost = 0; lost < ColumnSet{1} << code_->n(); ++lost) {
        if (__builtin_popcount(lost) > code_->guaranteed_tolerance()) continue;
        expect_decodes(stripe, columns, lost, runs);
        if (HasFailure()) return;
      }
    }
  }
  void expect_decodes(const pb::Stripe& stripe, std::map<int, Bytes> columns, ColumnSet lost,
                      const std::map<uint64_t, pb::Run>& runs) {
    for (int c = 0; c < code_->n(); ++c) {
      if (contains(lost, c)) columns.erase(c);
    }
    ColumnSet wanted = 0;
    for (int c = 0; c < code_->k(); ++c) {
      if (contains(lost, c) && stripe.shards(c).state() != pb::SHARD_EMPTY) {
        wanted |= ColumnSet{1} << c;
      }
    }
    if (wanted != 0) {
      auto rebuilt = rebuild_columns(*code_, stripe, columns, wanted);
      ASSERT_TRUE(rebuilt) << rebuilt.error().message();
      for (auto& [c, bytes] : rebuilt.value()) columns[c] = std::move(bytes);
    }
    for (const auto& [block, run] : runs) {
      if (run.stripe() != stripe.id()) continue;
      const int slot = static_cast<int>(run.first_slot());
      const auto& column = columns.at(static_cast<int>(stripe.slot_column(slot)));
      const Bytes found(column.begin() + stripe.slot_offset(slot),
                        column.begin() + stripe.slot_offset(slot) + stripe.slot_length(slot));
      ASSERT_EQ(found, expected_.at(block))
          << "block " << block << " of stripe " << stripe.id() << " without columns " << lost;
    }
  }
  // Every shard of every stripe proves by tag that it is what the records say.
  void expect_audits_clean() {
    for (const StripeId id : all_stripes()) {
      const auto report = audit_stripes(*context_, {{id}}, 0);
      ASSERT_TRUE(report) << report.error().message();
      EXPECT_GT(report.value().totals.shards_checked, 0u);
      EXPECT_TRUE(report.value().doubts.empty());
      for (const auto& f : report.value().findings) {
        ADD_FAILURE() << "stripe " << f.stripe << " column " << f.column << ": " << f.detail;
      }
    }
  }
  std::vector<StripeId> all_stripes() {
    std::vector<StripeId> ids;
    on_loop([&] {
      EXPECT_TRUE(store_->begin().scan("S", "T", [&](std::string_view k, std::string_view) {
        ids.push_back(key::u64_at(k, 1));
        return true;
      }));
    });
    return ids;
  }

  FoldOutcome fold(StripeId base, const FoldOptions& options = {}) {
    const auto outcome = fold_stripe(*context_, *ids_, base, options);
    EXPECT_TRUE(outcome) << outcome.error().message();
    return outcome ? outcome.value() : FoldOutcome();
  }
  // Until nothing names an object that is not named by a record and the other way round.
  void collect_garbage() {
    on_loop([&] {
      scrub_->kick();
      collector_->restart();
    });
    const auto end = monotonic_now() + seconds(20);
    for (bool idle = false; !idle && monotonic_now() < end;) {
      std::this_thread::sleep_for(milliseconds(1));
      on_loop([&] { idle = scrub_->idle() && collector_->idle(); });
    }
  }
  void expect_no_orphans() {
    collect_garbage();
    std::vector<std::set<std::string>> named(memory_.size());
    for (const StripeId id : all_stripes()) {
      const auto stripe = *record(id);
      for (int c = 0; c < stripe.shards_size(); ++c) {
        if (stripe.shards(c).state() != pb::SHARD_PRESENT) continue;
        named[stripe.shards(c).site() - 1].insert(object_name(stripe, c));
      }
    }
    for (size_t i = 0; i < memory_.size(); ++i) {
      const auto names = memory_[i].names();
      EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), named[i]) << "site " << i + 1;
    }
  }

  // Rules for object operations; on_operation may say more than the crash does.
  Fault fault(SiteId site, StoreOp op, const std::string& object) {
    if (op == StoreOp::check || op == StoreOp::capacity) return {};
    if (crashed_ || operations_++ >= operations_max_) {
      crashed_ = true;
      return {Fault::Kind::fail_before, Error(Errc::io, "crashed"), {}};
    }
    return on_operation ? on_operation(site, op, object) : Fault();
  }
  static constexpr InodeId kFile = 100;
  const ShardNamer namer_{Bytes(16, 7)};
  const SecretKey service_key_ = SecretKey(Bytes(32, 5));
  std::string root_, profile_;
  pb::Cloud cloud_;
  std::shared_ptr<const ErasureCode> code_;
  ShardTags tags_;
  std::vector<MemoryStoreControl> memory_;
  std::unique_ptr<MetadataStore> store_;
  std::unique_ptr<SiteSet> sites_;
  std::shared_ptr<ThreadLoop> loop_;
  std::unique_ptr<IdRanges> ranges_;
  std::unique_ptr<GarbageCollector> collector_;
  std::unique_ptr<GarbageScrub> scrub_;
  std::unique_ptr<Background> background_;
  std::unique_ptr<BackgroundContext> context_;
  std::unique_ptr<BackgroundIds> ids_;
  std::function<Fault(SiteId, StoreOp, const std::string&)> on_operation;
  std::atomic<bool> crashed_{false};
  std::unique_ptr<CrashingCommitter> committer_;
  std::atomic<uint64_t> operations_{0}, operations_max_{UINT64_MAX};
  std::map<uint64_t, Bytes> expected_;  // of the file, by block
  uint32_t shard_bytes_ = 0;            // as records of stripes to be written say
  SiteId home_site_ = 0;
  std::mt19937_64 random_{test_seed()};
};

}  // namespace datacloud
