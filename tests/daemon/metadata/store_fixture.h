// A metadata store in a temporary directory, for tests of the daemon's view.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline pb::Cloud test_cloud(uint32_t block_bytes = 4096) {
  pb::Cloud cloud;
  cloud.set_uuid("00000000-0000-4000-8000-000000000001");
  cloud.set_name("test");
  cloud.mutable_root_policy()->set_code("rs-3-2");
  cloud.mutable_root_policy()->set_block_bytes(block_bytes);
  cloud.mutable_root_policy()->set_compression(1);
  return cloud;
}

// The seed of a random test: DATACLOUD_SEED, else a new one; printed so that a failure repeats.
inline uint64_t test_seed() {
  const char* given = std::getenv("DATACLOUD_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("DATACLOUD_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);  // also when the test is killed
  return seed;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/datacloud-store-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    const auto made = MetadataStore::create(options(), test_cloud(), 0, 0);
    ASSERT_TRUE(made) << made.error().message();
    open();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(root_);
  }

  void open() {
    store_.reset();
    auto opened = MetadataStore::open(options());
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(opened.value());
  }
  MetadataStore::Options options() const { return {.directory = root_ + "/meta"}; }

  // Runs `change` in a transaction and commits it when it succeeds.
  template <class Change>
  auto apply(const Change& change) {
    auto txn = store_->begin();
    auto outcome = change(txn);
    if (outcome) {
      const auto committed = store_->commit(std::move(txn));
      EXPECT_TRUE(committed) << committed.error().message();
    }
    return outcome;
  }

  std::string root_;
  std::unique_ptr<MetadataStore> store_;
};

}  // namespace datacloud
