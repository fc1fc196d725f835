// A store with a journal on a simulated disk, and the loop its committer runs on.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "tests/daemon/metadata/memory_journal.h"
#include "tests/support/simulated_files.h"

namespace datacloud {

// Runs what is posted, from any thread, when the test says so.
class QueueLoop final : public EventLoop {
 public:
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(f));
  }
  void after(Duration, std::function<void()> f) override { post(std::move(f)); }
  MonotonicTime now() override { return monotonic_now(); }
  bool run() {
    std::function<void()> f;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty()) return false;
      f = std::move(queue_.front());
      queue_.pop_front();
    }
    f();
    return true;
  }

 private:
  std::mutex mutex_;
  std::deque<std::function<void()>> queue_;
};

inline const std::string kJournalCloud = "00000000-0000-4000-8000-000000000001";
inline SecretKey journal_test_key() { return SecretKey(Bytes(32, 7)); }

// One daemon's directory, and the daemon while it runs.
class JournalRig {
 public:
  JournalRig(std::shared_ptr<SimulatedFiles> disk, const std::string& name,
             std::shared_ptr<journal::MemoryJournal> log)
      : JournalRig(std::move(disk), name, [log](auto fenced) { return log->claim(fenced); }) {
    journal = std::move(log);
  }
  // Another journal than that in memory.
  using Claim = std::function<result<std::shared_ptr<journal::QuorumLog>>(
      std::function<void(const Error&)> fenced)>;
  JournalRig(std::shared_ptr<SimulatedFiles> disk, const std::string& name, Claim claim)
      : claim_(std::move(claim)) {
    options_.directory = "/" + name;
    options_.files = std::move(disk);
    pb::Cloud cloud;
    cloud.set_uuid(kJournalCloud);
    cloud.set_name("test");
    cloud.mutable_root_policy()->set_code("rs-3-2");
    cloud.mutable_root_policy()->set_block_bytes(4096);
    pb::JournalSet set;
    set.set_journal(std::string(16, 'j'));
    set.set_number(1);
    set.add_sites(1);
    set.set_segment_bytes(4 << 20);
    pb::Features features;
    features.add_features()->set_name("journal");
    const auto made = MetadataStore::create(options_, cloud, 0, 0, features, &set);
    EXPECT_TRUE(made) << made.error().message();
  }

  result<void> open() {
    TRY(store, MetadataStore::open(options_));
    return success();
  }
  result<void> start() {
    if (!store) {
      TRY(open());
    }
    TRY(auto log, claim_([this, loop = loop](const Error& error) {
          loop->post([this, text = error.text()] { fatal.push_back(text); });
        }));
    auto done = start_journal(
        *store, {.loop = loop,
                 .log = std::move(log),
                 .journal = journal_id(kJournalCloud).value(),
                 .metadata_key = journal_test_key(),
                 .uncommitted_bytes_max = uncommitted_bytes_max,
                 .append_delay = append_delay,
                 .fatal = [this](const Error& error) { fatal.push_back(error.text()); }});
    if (!done) return failure(done.error());
    started = std::move(done.value());
    return success();
  }
  // As kill -9: what was written to files stays.
  void kill() {
    started = {};
    store.reset();
    loop = std::make_shared<QueueLoop>();
  }
  // Everything that is due.
  void drain() {
    while ((journal && journal->deliver()) || loop->run()) {
    }
  }
  JournalCommitter& committer() const { return *started.committer; }
  result<void> put(const std::string& key, const std::string& value) {
    auto txn = store->begin();
    txn.put(key, value);
    return committer().apply(std::move(txn));
  }
  std::optional<std::string> get(const std::string& key) const {
    return store->begin().get(key).value();
  }
  // Records of these tests, and the counter of transactions.
  std::map<std::string, std::string> records() const {
    std::map<std::string, std::string> out;
    EXPECT_TRUE(store->begin().scan("Z", "[", [&](std::string_view k, std::string_view v) {
      out.emplace(k, v);
      return true;
    }));
    return out;
  }

  std::shared_ptr<journal::MemoryJournal> journal;
  std::shared_ptr<QueueLoop> loop = std::make_shared<QueueLoop>();
  std::unique_ptr<MetadataStore> store;
  JournalStarted started;
  std::vector<std::string> fatal;
  uint64_t uncommitted_bytes_max = 1 << 20;
  Duration append_delay{0};

 private:
  const Claim claim_;
  MetadataStore::Options options_;
};

inline std::shared_ptr<journal::MemoryJournal> make_memory_journal() {
  return std::make_shared<journal::MemoryJournal>(journal_id(kJournalCloud).value());
}

}  // namespace datacloud
