// The prefix of a torn LevelDB log, over logs written here by the format's document.
#include "daemon/metadata/log_prefix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "common/base/crc32c.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {
namespace {

constexpr size_t kBlockBytes = 32768;

// A writer as doc/log_format.md of LevelDB describes it; remembers where records end.
struct WrittenLog {
  Bytes bytes;
  std::vector<size_t> ends{0};

  void add(const Bytes& record) {
    size_t at = 0;
    bool first = true;
    do {
      size_t room = kBlockBytes - bytes.size() % kBlockBytes;
      if (room < 7) {
        bytes.resize(bytes.size() + room, 0);
        room = kBlockBytes;
      }
      const size_t length = std::min(room - 7, record.size() - at);
      const bool last = at + length == record.size();
      fragment(ByteView(record).subspan(at, length), first ? (last ? 1 : 2) : (last ? 4 : 3));
      at += length;
      first = false;
    } while (at < record.size());
    ends.push_back(bytes.size());
  }

  void fragment(ByteView data, uint8_t type) {
    Bytes summed{type};
    summed.insert(summed.end(), data.begin(), data.end());
    const uint32_t crc = crc32c(summed);
    const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<uint8_t>(masked >> (8 * i)));
    bytes.push_back(static_cast<uint8_t>(data.size()));
    bytes.push_back(static_cast<uint8_t>(data.size() >> 8));
    bytes.insert(bytes.end(), summed.begin(), summed.end());
  }

  // The end of the last record that lies wholly below `at`.
  size_t end_below(size_t at) const {
    return *std::prev(std::upper_bound(ends.begin(), ends.end(), at));
  }
};

WrittenLog random_log(std::mt19937_64& random) {
  WrittenLog log;
  for (const size_t size : {0u, 10u, 32000u, 700u, 34u, 100000u, 1u, 40000u, 0u, 12u}) {
    Bytes record(size);
    for (auto& b : record) b = static_cast<uint8_t>(random() | 1);
    log.add(record);
  }
  return log;
}

TEST(LogPrefix, AWholeLogIsWhole) {
  std::mt19937_64 random(test_seed());
  const auto log = random_log(random);
  EXPECT_EQ(valid_log_prefix(log.bytes).bytes, log.bytes.size());
  EXPECT_TRUE(valid_log_prefix(log.bytes).whole);
  EXPECT_TRUE(valid_log_prefix({}).whole);
  EXPECT_EQ(valid_log_prefix({}).bytes, 0u);
}

TEST(LogPrefix, ACutLogEndsAtItsLastWholeRecord) {
  std::mt19937_64 random(test_seed());
  const auto log = random_log(random);
  for (size_t cut = 0; cut < log.bytes.size(); cut += 1 + random() % 97) {
    const auto prefix = valid_log_prefix(ByteView(log.bytes).first(cut));
    ASSERT_EQ(prefix.bytes, log.end_below(cut)) << "cut at " << cut;
  }
}

TEST(LogPrefix, NothingBehindADamagedByteCounts) {
  std::mt19937_64 random(test_seed());
  const auto log = random_log(random);
  for (int i = 0; i < 500; ++i) {
    const size_t at = random() % log.bytes.size();
    Bytes damaged = log.bytes;
    damaged[at] ^= static_cast<uint8_t>(1 + random() % 255);
    const auto prefix = valid_log_prefix(damaged);
    ASSERT_FALSE(prefix.whole) << "byte " << at;
    // Padding belongs to no record: damage there costs nothing before it.
    ASSERT_EQ(prefix.bytes, log.end_below(at)) << "byte " << at;
  }
}

TEST(LogPrefix, AnyBytesAreSafe) {
  std::mt19937_64 random(test_seed());
  for (int i = 0; i < 2000; ++i) {
    Bytes bytes(random() % 300);
    for (auto& b : bytes) b = static_cast<uint8_t>(random() % 3);
    ASSERT_LE(valid_log_prefix(bytes).bytes, bytes.size());
  }
  EXPECT_EQ(valid_log_prefix(Bytes(100000, 0)).bytes, 0u) << "zeros are no records";
}

using TornLogTest = StoreTest;

// A store whose last log has garbage at its end opens with every commit before it.
TEST_F(TornLogTest, ATornTailIsDropped) {
  for (int i = 0; i < 20; ++i) {
    auto txn = store_->begin();
    txn.put(std::string("Z").append(std::to_string(i)), std::string(100, 'v'));
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  const Sequence sequence = store_->sequence();
  store_.reset();
  std::string last;
  for (const auto& file : std::filesystem::directory_iterator(root_ + "/meta")) {
    if (file.path().extension() == ".log") last = std::max(last, file.path().string());
  }
  std::filesystem::resize_file(last, std::filesystem::file_size(last) - 1);
  FILE* file = std::fopen(last.c_str(), "ab");
  std::fwrite(std::string(70000, 'g').data(), 1, 70000, file);
  std::fclose(file);
  open();
  EXPECT_EQ(store_->sequence(), sequence - 1);
  EXPECT_TRUE(store_->begin().get("Z18").value());
  EXPECT_FALSE(store_->begin().get("Z19").value());
}

}  // namespace
}  // namespace datacloud
