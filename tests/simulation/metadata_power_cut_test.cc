// Power cuts under the metadata store, at any call, with log switches and compactions going on:
// what was reported durable is there, what is there is exactly the state after some commit, and the
// block map is consistent. And each kind of sync is needed: without it some cut breaks a promise.
//
// LevelDB compacts and we sync on threads of their own, so a seed does not repeat a run call by
// call; the promises hold for every interleaving, and a dropped kind of sync fails within few
// scenarios (they are counted below).
//
// Not synced, because nothing needs it: unlinks (files that come back are older than what CURRENT
// names, and LevelDB ignores and removes them) and the name of CURRENT's temporary file (the
// directory is synced after its rename).
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "tests/simulation/chosen_syncs.h"
#include "tests/support/simulated_files.h"

namespace datacloud {
namespace {

constexpr int kCommitsMax = 3000;  // per run between two cuts
constexpr InodeId kFile = 50;

using State = std::map<std::string, std::string>;
using Changes = std::vector<std::pair<std::string, std::optional<std::string>>>;

class Scenario {
 public:
  Scenario(uint64_t seed, SyncKind dropped)
      : random_(seed),
        disk_(std::make_shared<SimulatedFiles>()),
        files_(std::make_shared<ChosenSyncs>(disk_, dropped)) {}

  // The first broken promise, empty when all are kept.
  std::string run() {
    if (!disk_->make_directory("/state") || !disk_->sync_directory("/")) return "no disk";
    if (auto broken = create(); !broken.empty()) return broken;
    for (int cut = 0; cut < 3; ++cut) {
      disk_->fail_power_at(disk_->change_count() + 1 + random_() % 1200);
      work();
      store_.reset();
      disk_->power_cut(random_());
      while (random_() % 8 != 0) {  // and the power fails again while it opens
        disk_->fail_power_at(disk_->change_count() + random_() % 25);
        open();
        store_.reset();
        disk_->power_cut(random_());
      }
      if (auto broken = open(); !broken.empty()) return "open: " + broken;
      if (auto broken = violation(); !broken.empty()) return broken;
    }
    return "";
  }

  const ChosenSyncs& files() const { return *files_; }
  uint64_t commits() const { return history_.size(); }

 private:
  MetadataStore::Options options() {
    MetadataStore::Options options;
    options.directory = "/state/metadata";
    options.files = files_;
    options.write_buffer_bytes = 64 << 10;
    return options;
  }

  // Sometimes interrupted, and then done again.
  std::string create() {
    pb::Cloud cloud;
    cloud.set_name("cut");
    cloud.mutable_root_policy()->set_code("rs-3-2");
    cloud.mutable_root_policy()->set_block_bytes(4096);
    if (random_() % 2) disk_->fail_power_at(random_() % 60);
    auto made = MetadataStore::create(options(), cloud, 0, 0);
    disk_->power_cut(random_());
    if (!made) {
      made = MetadataStore::create(options(), cloud, 0, 0);
      if (!made && !made.error().is(Errc::exists)) {
        return "cannot complete an interrupted create: " + made.error().message();
      }
      disk_->power_cut(random_());
    }
    if (auto broken = open(); !broken.empty()) return "after create: " + broken;
    history_.resize(store_->sequence());
    durable_ = store_->sequence();
    return "";
  }

  std::string open() {
    auto opened = MetadataStore::open(options());
    if (!opened) return opened.error().message();
    store_ = std::move(opened.value());
    return "";
  }

  // Commits until the power fails.
  void work() {
    for (int i = 0; i < kCommitsMax; ++i) {
      auto txn = store_->begin();
      Changes changes = change_keys(txn);
      if (!change_files(txn)) return;
      history_.push_back(std::move(changes));  // even when the commit fails: it may be there
      const auto sequence = store_->commit(std::move(txn));
      if (!sequence) return;
      const uint64_t dice = random_() % 20;
      if (dice == 0) {
        if (!store_->wait_durable(sequence.value())) return;
        note_durable(sequence.value());
      } else if (dice == 1) {
        store_->when_durable(sequence.value(), [this, s = sequence.value()](result<void> r) {
          if (r) note_durable(s);
        });
      }
    }
  }

  Changes change_keys(Transaction& txn) {
    Changes changes;
    for (uint64_t n = 1 + random_() % 3; n > 0; --n) {
      std::string key("Z");
      key.append(std::to_string(random_() % 40));
      if (random_() % 5 == 0) {
        txn.erase(key);
        changes.emplace_back(key, std::nullopt);
      } else {
        // Random bytes, so that tables do not shrink by compression.
        std::string value(random_() % 3000, 0);
        for (auto& c : value) c = static_cast<char>(random_());
        txn.put(key, value);
        changes.emplace_back(key, value);
      }
    }
    return changes;
  }

  // A block of a file is rewritten: old stripe out, new stripe in. False when reading fails.
  bool change_files(Transaction& txn) {
    const auto inode = get_inode(txn, kFile);
    if (!inode && inode.error().errno_value() != ENOENT) return false;
    if (!inode) {
      pb::CreateRequest request;
      request.set_parent(kRootInode);
      request.set_name("file");
      request.set_mode(S_IFREG | 0644);
      return create_file(txn, request);
    }
    pb::Stripe stripe;
    stripe.set_id(store_->sequence() + 10);
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(100);
    stripe.add_slot_column(0);
    stripe.add_slot_offset(0);
    stripe.add_slot_length(100);
    for (uint32_t c = 0; c < 5; ++c) {
      auto* shard = stripe.add_shards();
      shard->set_state(c == 1 || c == 2 ? pb::SHARD_EMPTY : pb::SHARD_PRESENT);
      if (shard->state() == pb::SHARD_EMPTY) continue;
      shard->set_site(c + 1);
      shard->set_instance(stripe.id());
      shard->set_bytes(100);
    }
    pb::InodeUpdate update;
    update.set_ino(kFile);
    auto* run = update.add_runs();
    run->set_first_block(random_() % 20);
    run->set_count(1);
    run->set_stripe(stripe.id());
    run->set_version(stripe.id());
    update.set_grow_to(20 * 4096);
    return add_stripe(txn, stripe) && update_inode(txn, update);
  }

  static bool create_file(Transaction& txn, const pb::CreateRequest& request) {
    return bool(datacloud::create(txn, request, kFile));
  }

  void note_durable(Sequence sequence) {
    for (Sequence seen = durable_;
         seen < sequence && !durable_.compare_exchange_weak(seen, sequence);) {
    }
  }

  std::string violation() {
    const Sequence sequence = store_->sequence();
    if (sequence < durable_) {
      return "durable until " + std::to_string(durable_) + ", there until " +
             std::to_string(sequence);
    }
    if (sequence > history_.size()) return "a commit nobody made";
    history_.resize(sequence);  // what is lost is lost
    durable_ = sequence;        // opening makes it so
    State expected;
    for (const auto& changes : history_) {
      for (const auto& [key, value] : changes) {
        if (value) {
          expected[key] = *value;
        } else {
          expected.erase(key);
        }
      }
    }
    const auto txn = store_->begin();
    State found;
    auto scanned = txn.scan("Z", "[", [&](std::string_view k, std::string_view v) {
      found.emplace(k, v);
      return true;
    });
    if (!scanned) return scanned.error().message();
    if (found != expected) return "not the state of sequence " + std::to_string(sequence);
    const auto findings = check_block_map(txn);
    if (!findings) return findings.error().message();
    return findings.value().empty() ? "" : "block map: " + findings.value().front();
  }

  std::mt19937_64 random_;
  const std::shared_ptr<SimulatedFiles> disk_;
  const std::shared_ptr<ChosenSyncs> files_;
  std::unique_ptr<MetadataStore> store_;
  std::vector<Changes> history_;  // by sequence - 1
  std::atomic<Sequence> durable_{0};
};

uint64_t base_seed() {
  const char* given = std::getenv("DATACLOUD_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "DATACLOUD_SEED=" << seed << std::endl;
  return seed;
}

TEST(MetadataPowerCut, EveryPromiseIsKept) {
  const uint64_t base = base_seed();
  std::map<SyncKind, uint64_t> syncs;
  uint64_t commits = 0;
  for (uint64_t i = 0; i < 40; ++i) {
    Scenario scenario(base + i, SyncKind::none);
    ASSERT_EQ(scenario.run(), "") << "seed " << base + i;
    commits += scenario.commits();
    for (const SyncKind kind : kSyncKinds) syncs[kind] += scenario.files().count(kind);
  }
  std::cout << commits << " commits survived" << std::endl;
  for (const SyncKind kind : kSyncKinds) {
    EXPECT_GT(syncs[kind], 0u) << kSyncKindNames[static_cast<size_t>(kind)] << " never happened";
  }
}

TEST(MetadataPowerCut, EveryKindOfSyncIsNeeded) {
  const uint64_t base = base_seed();
  constexpr uint64_t kScenariosMax = 400;
  for (const SyncKind kind : kSyncKinds) {
    const char* name = kSyncKindNames[static_cast<size_t>(kind)];
    std::string broken;
    uint64_t i = 0;
    for (; i < kScenariosMax && broken.empty(); ++i) broken = Scenario(base + i, kind).run();
    std::cout << name << ": after " << i << " scenarios: " << broken << std::endl;
    EXPECT_NE(broken, "") << "nothing breaks without the sync of " << name;
  }
}

}  // namespace
}  // namespace datacloud
