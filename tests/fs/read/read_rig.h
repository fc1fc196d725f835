// Five memory sites behind fault rules, and stripes made by hand on them, for tests of reading.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "common/base/executor.h"
#include "common/codes/erasure_code.h"
#include "common/crypto/sealed_block.h"
#include "common/site/site_set.h"
#include "common/store/memory_store.h"
#include "common/stripe/stripe_layout.h"
#include "fs/read/stripe_reader.h"

namespace datacloud {

class ReadRig {
 public:
  explicit ReadRig(MountConfig config = {}, int site_count = 5)
      : controls(site_count), faults(site_count), config(config) {
    std::vector<SiteSet::Member> members;
    for (int s = 0; s < site_count; ++s) {
      faults[s] = std::make_shared<Faults>();
      auto rule = [f = faults[s]](StoreOp op, const std::string& name) {
        std::lock_guard lock(f->mutex);
        if (op == StoreOp::read) ++f->reads;
        const auto it = f->by_name.find(name);
        return it != f->by_name.end() ? it->second : op == StoreOp::read ? f->reading : Fault{};
      };
      members.push_back({static_cast<SiteId>(s + 1), "site" + std::to_string(s + 1),
                         make_fault_store(make_memory_store(controls[s]), rule)});
    }
    sites = std::make_unique<SiteSet>(std::move(members));
    reader = std::make_unique<StripeReader>(StripeReader::Dependencies{
        *sites, namer, sealer, executor, config, 0, [this](std::vector<pb::Damage> found) {
          std::lock_guard lock(damage_mutex);
          for (auto& d : found) damage.push_back(std::move(d));
        }});
  }
  // Lets hung calls go before the reader waits for them.
  ~ReadRig() {
    reader.reset();
    sites.reset();
  }

  static Bytes random_bytes(std::mt19937_64& random, size_t size) {
    Bytes out(size);
    for (auto& b : out) b = static_cast<uint8_t>(random());
    return out;
  }

  struct Made {
    std::shared_ptr<pb::Stripe> record;
    std::vector<Bytes> shards;
    std::vector<StripeReader::Want> wants;
    std::vector<Bytes> plain;
  };

  // Blocks first.. of inode `ino` with content versions version.., one slot each; column c at
  // site c + 1.
  Made make_stripe(StripeId id, InodeId ino, uint64_t first, ContentVersion version,
                   std::vector<Bytes> plain, const std::string& profile = "rs-3-2",
                   uint32_t spread_min_bytes = 0) {
    Made made;
    const auto code = make_erasure_code(profile).value();
    std::vector<Bytes> sealed(plain.size());
    std::vector<uint32_t> lengths;
    for (size_t i = 0; i < plain.size(); ++i) {
      const BlockAddress address{0, ino, first + i, version + i, 1};
      EXPECT_TRUE(sealer.seal(address, plain[i], Compression::zstd, sealed[i]));
      lengths.push_back(static_cast<uint32_t>(sealed[i].size()));
      made.wants.push_back({address, static_cast<uint32_t>(i)});
    }
    const auto layout =
        lay_out_stripe(lengths, code->k(), code->packets(), spread_min_bytes).value();
    made.record = std::make_shared<pb::Stripe>();
    made.record->set_id(id);
    made.record->set_code(profile);
    made.record->set_parity_bytes(layout.parity_length);
    std::vector<Bytes> padded(code->n(), Bytes(layout.parity_length, 0));
    for (size_t i = 0; i < sealed.size(); ++i) {
      const Slot& slot = layout.slots[i];
      std::copy(sealed[i].begin(), sealed[i].end(), padded[slot.column].begin() + slot.offset);
      made.record->add_slot_column(slot.column);
      made.record->add_slot_offset(slot.offset);
      made.record->add_slot_length(slot.length);
    }
    const std::vector<ByteView> data(padded.begin(), padded.begin() + code->k());
    code->encode(data, {padded.begin() + code->k(), padded.end()});
    for (int c = 0; c < code->n(); ++c) {
      const uint32_t bytes = c < code->k() ? layout.data_lengths[c] : layout.parity_length;
      padded[c].resize(bytes);
      pb::Shard& shard = *made.record->add_shards();
      shard.set_site(static_cast<uint32_t>(c) % sites->size() + 1);
      shard.set_home_site(shard.site());
      shard.set_instance(++instances_);
      shard.set_bytes(bytes);
      shard.set_state(bytes == 0 ? pb::SHARD_EMPTY : pb::SHARD_PRESENT);
      if (bytes > 0) put(name(*made.record, c), c, padded[c]);
    }
    made.shards = std::move(padded);
    made.plain = std::move(plain);
    return made;
  }

  std::vector<Bytes> random_blocks(std::mt19937_64& random, size_t count, size_t bytes) {
    std::vector<Bytes> out;
    for (size_t i = 0; i < count; ++i) out.push_back(random_bytes(random, bytes));
    return out;
  }

  std::string name(const pb::Stripe& record, int column) const {
    return namer.object_name(
        {record.id(), static_cast<uint8_t>(column), record.shards(column).instance()});
  }
  ObjectStore& store(int column) { return sites->at(column % sites->size()).store(); }
  void put(const std::string& object, int column, Bytes bytes) {
    EXPECT_TRUE(wait_for<void>([&](Callback<void> done) {
      store(column).put(object, Payload::from(std::move(bytes)), {}, {}, std::move(done));
    }));
  }
  void remove(const pb::Stripe& record, int column) {
    EXPECT_TRUE(wait_for<void>([&](Callback<void> done) {
      store(column).remove(name(record, column), {}, std::move(done));
    }));
  }
  void overwrite(const pb::Stripe& record, int column, Bytes bytes) {
    EXPECT_TRUE(
        controls[column % controls.size()].overwrite(name(record, column), std::move(bytes)));
  }
  void set_reading(int site, Fault fault) {
    std::lock_guard lock(faults[site]->mutex);
    faults[site]->reading = std::move(fault);
  }
  uint64_t reads(int site) {
    std::lock_guard lock(faults[site]->mutex);
    return faults[site]->reads;
  }

  std::vector<result<Bytes>> read(
      const Made& made, StripeReader::NotFound not_found = StripeReader::NotFound::erasure) {
    std::promise<std::vector<result<Bytes>>> promise;
    auto future = promise.get_future();
    reader->read(
        made.record, made.wants,
        [&promise](std::vector<result<Bytes>> r) { promise.set_value(std::move(r)); }, not_found);
    return future.get();
  }
  void expect_exact(const Made& made, const std::vector<result<Bytes>>& got) {
    ASSERT_EQ(got.size(), made.plain.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_TRUE(got[i]) << "block " << i << ": " << got[i].error().message();
      ASSERT_TRUE(got[i].value() == made.plain[i]) << "block " << i;
    }
  }
  // column -> reason, of what was reported so far; forgets it.
  std::map<int, std::string> take_damage() {
    std::lock_guard lock(damage_mutex);
    std::map<int, std::string> out;
    for (const auto& d : damage) out[static_cast<int>(d.column())] = d.reason();
    damage.clear();
    return out;
  }

  struct Faults {
    std::mutex mutex;
    Fault reading;
    std::map<std::string, Fault> by_name;
    uint64_t reads = 0;
  };

  std::vector<MemoryStoreControl> controls;
  std::vector<std::shared_ptr<Faults>> faults;
  MountConfig config;
  ShardNamer namer{as_bytes("0123456789abcdef")};
  BlockSealer sealer{SecretKey(as_bytes("0123456789abcdef0123456789abcdef")), "uuid-of-cloud"};
  Executor executor{3, 1024};
  std::mutex damage_mutex;
  std::vector<pb::Damage> damage;
  std::unique_ptr<SiteSet> sites;
  std::unique_ptr<StripeReader> reader;

 private:
  InstanceId instances_ = 0;
};

inline uint64_t test_seed() {
  const char* text = std::getenv("DATACLOUD_SEED");
  const uint64_t seed = text ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu (DATACLOUD_SEED)\n", static_cast<unsigned long long>(seed));
  return seed;
}

}  // namespace datacloud
