// A cloud of memory sites for tests of the write path: put faults by site, a fake daemon, and a
// reader that decodes with any two columns dropped.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "common/codes/erasure_code.h"
#include "common/site/site_set.h"
#include "common/store/memory_store.h"
#include "common/store/object_compute.h"
#include "common/store/store_decorators.h"
#include "fs/write/write_pipeline.h"
#include "tests/fs/write/fake_daemon.h"
#include "tests/support/audit_ledger.h"

namespace datacloud {

inline constexpr uint32_t kTestBlock = 4096;

class WriteCloud {
 public:
  // recorded: the ledger of PRF inputs is kept, which slows puts.
  explicit WriteCloud(int site_count = 5, uint64_t seed = 1, bool recorded = false)
      : daemon(seed),
        namer_(Bytes(16, 7)),
        sealer_(SecretKey(Bytes(32, 9)), "cloud"),
        ids(daemon),
        faults_(static_cast<size_t>(site_count)),
        puts_at_(static_cast<size_t>(site_count)) {
    std::vector<SiteSet::Member> members;
    for (int i = 0; i < site_count; ++i) {
      const auto index = static_cast<size_t>(i);
      auto fault = [this, index](StoreOp op, const std::string& name) {
        return op == StoreOp::put ? put_fault(index, name) : Fault{};
      };
      const SiteId id = static_cast<SiteId>(i + 1);
      auto store = make_fault_store(make_memory_store(controls_.emplace_back()), fault);
      if (recorded) {
        store = std::make_unique<RecordingStore>(std::move(store), id, namer_, ledger_);
      }
      members.push_back({id, "site" + std::to_string(id), std::move(store)});
      auto& info = *cloud_.add_sites();
      info.set_id(id);
      info.set_name("site" + std::to_string(id));
    }
    cloud_.set_uuid("cloud");
    cloud_.set_write_sites_min(static_cast<uint32_t>(site_count / 2 + 1));
    tags_ =
        std::make_shared<const ShardTags>(ShardTags::derive_keys(SecretKey(Bytes(32, 11)), cloud_));
    sites = std::make_unique<SiteSet>(std::move(members), milliseconds(20));
    daemon.check_stripe = [this](const pb::Stripe& s) { return check_named_objects(s); };
    config.put_deadline_ms = 2000;
  }
  ~WriteCloud() {
    pipeline.reset();
    for (const auto& violation : ledger_.violations()) ADD_FAILURE() << violation;
  }

  void start() {
    pipeline = std::make_unique<WritePipeline>(
        WritePipeline::Dependencies{daemon, *sites, namer_, sealer_, ids, cloud_, config, tags_});
  }

  // The fault of puts at a site (0-based), until changed.
  void set_fault(int site, Fault fault) {
    std::lock_guard lock(mutex_);
    faults_[static_cast<size_t>(site)] = std::move(fault);
  }
  void set_random_delay_ms(int max) { delay_ms_max_ = max; }
  void set_away(int site, bool away) {
    controls_[static_cast<size_t>(site)].set_away(away);
    sites->check_all(seconds(1));
  }
  int puts_seen() const { return puts_seen_; }
  int puts_seen_at(int site) const { return puts_at_[static_cast<size_t>(site)]; }
  MemoryStoreControl& control(int site) { return controls_[static_cast<size_t>(site)]; }

  static FlushUnit unit(InodeId ino, uint64_t first, const std::vector<Bytes>& blocks) {
    FlushUnit u;
    u.ino = ino;
    u.code = "rs-3-2";
    u.block_bytes = kTestBlock;
    for (size_t i = 0; i < blocks.size(); ++i) {
      u.blocks.push_back({first + i, std::make_shared<const Bytes>(blocks[i])});
    }
    u.size = blocks.empty() ? 0 : (first + blocks.size() - 1) * kTestBlock + blocks.back().size();
    return u;
  }

  std::future<result<FlushResult>> write(FlushUnit u, Urgency urgency = Urgency::now,
                                         bool durable = false) {
    auto promise = std::make_shared<std::promise<result<FlushResult>>>();
    pipeline->submit(std::move(u), urgency, durable,
                     [promise](result<FlushResult> r) { promise->set_value(std::move(r)); });
    return promise->get_future();
  }

  // One block as it is in the sites, with up to two columns of its stripe taken as lost.
  result<Bytes> read_block(InodeId ino, uint64_t block, ColumnSet lost = 0) {
    std::unique_lock lock(daemon.mutex());
    const auto place = daemon.files[ino].blocks.at(block);
    const pb::Stripe stripe = daemon.stripes.at(place.stripe);
    lock.unlock();
    TRY(auto code, make_erasure_code(stripe.code()));
    const auto slot = static_cast<int>(place.slot);
    const uint32_t column = stripe.slot_column(slot);
    TRY(auto shards, read_shards(stripe, lost));
    Bytes& wanted = shards[column];
    if (wanted.empty()) {
      wanted.resize(stripe.parity_bytes());
      TRY(decode_column(*code, stripe, shards, column));
    }
    const BlockAddress address{.inode = ino, .block = block, .version = place.version};
    return sealer_.open(
        address, ByteView(wanted).subspan(stripe.slot_offset(slot), stripe.slot_length(slot)));
  }

  // The stripe's stored columns; those without an object are empty.
  result<std::vector<Bytes>> columns(const pb::Stripe& stripe) { return read_shards(stripe, 0); }

  FakeDaemon daemon;

 private:
  ShardNamer namer_;
  AuditLedger ledger_;  // no tag's PRF input is used for two contents, whatever fails
  BlockSealer sealer_;

 public:
  IdPool ids;
  MountConfig config;
  std::unique_ptr<SiteSet> sites;
  std::unique_ptr<WritePipeline> pipeline;

 private:
  Fault put_fault(size_t site, const std::string&) {
    ++puts_seen_;
    ++puts_at_[site];
    std::lock_guard lock(mutex_);
    if (faults_[site].kind != Fault::Kind::none || delay_ms_max_ == 0) return faults_[site];
    return {.kind = Fault::Kind::delay,
            .delay = milliseconds(random_() % static_cast<uint64_t>(delay_ms_max_))};
  }

  result<Bytes> read_shard(const pb::Stripe& stripe, int column) {
    const auto& shard = stripe.shards(column);
    const ShardName name{stripe.id(), static_cast<uint8_t>(column), shard.instance()};
    TRY(auto reply, wait_for<ReadReply>([&](auto done) {
          sites->find(shard.site())
              ->store()
              .read(namer_.object_name(name), {{0, shard.bytes()}}, true,
                    {.deadline = monotonic_now() + seconds(5)}, std::move(done));
        }));
    if (reply.object_size != shard.bytes()) return failure(Errc::corrupt, "wrong shard length");
    // What a site holds is provable: its instance and the tags for this very site.
    TRY(const InstanceId instance, instance_of(reply.attributes));
    if (instance != shard.instance()) return failure(Errc::corrupt, "another instance's attribute");
    TRY(tags_->verify(stripe, column, reply.ranges[0], reply.attributes));
    return std::move(reply.ranges[0]);
  }

  // Present columns that are not lost, by column; absent ones are empty.
  result<std::vector<Bytes>> read_shards(const pb::Stripe& stripe, ColumnSet lost) {
    std::vector<Bytes> shards(static_cast<size_t>(stripe.shards_size()));
    for (int c = 0; c < stripe.shards_size(); ++c) {
      if (stripe.shards(c).state() != pb::SHARD_PRESENT || contains(lost, c)) continue;
      TRY(shards[static_cast<size_t>(c)], read_shard(stripe, c));
    }
    return shards;
  }

  static result<void> decode_column(const ErasureCode& code, const pb::Stripe& stripe,
                                    std::vector<Bytes>& shards, uint32_t wanted) {
    ColumnSet present = 0;
    for (size_t c = 0; c < shards.size(); ++c) {
      const auto state = stripe.shards(static_cast<int>(c)).state();
      if (c == wanted || (shards[c].empty() && state != pb::SHARD_EMPTY)) continue;
      shards[c].resize(stripe.parity_bytes());
      present |= ColumnSet{1} << c;
    }
    TRY(const ColumnSet needed, code.minimum_to_decode(ColumnSet{1} << wanted, present, {}));
    std::vector<ByteView> in(shards.begin(), shards.end());
    return code.decode(ColumnSet{1} << wanted, needed, in, {MutableByteView(shards[wanted])});
  }

  // The one rule: what a commit calls present is there, whole, at that moment.
  std::string check_named_objects(const pb::Stripe& stripe) {
    for (int c = 0; c < stripe.shards_size(); ++c) {
      const auto& shard = stripe.shards(c);
      if (shard.state() != pb::SHARD_PRESENT) {
        if (shard.instance() != 0) return "a shard without an object has an instance";
        continue;
      }
      const auto bytes = read_shard(stripe, c);
      if (!bytes && !bytes.error().is(Errc::away)) return bytes.error().message();
    }
    return "";
  }

  std::vector<MemoryStoreControl> controls_;
  pb::Cloud cloud_;
  std::shared_ptr<const ShardTags> tags_;
  std::mutex mutex_;
  std::vector<Fault> faults_;
  std::atomic<int> delay_ms_max_{0}, puts_seen_{0};
  std::vector<std::atomic<int>> puts_at_;  // by site
  std::mt19937_64 random_{42};
};

inline Bytes random_bytes(std::mt19937_64& random, size_t count) {
  Bytes bytes(count);
  const bool compressible = random() % 2 == 0;
  for (auto& b : bytes) b = static_cast<uint8_t>(compressible ? random() % 4 : random());
  return bytes;
}

}  // namespace datacloud
