// Entries, segments and claims as bytes: what docs/journal.md shows is what is written.
#include <fstream>
#include <sstream>

#include "common/base/hex.h"
#include "daemon/journal/claim_format.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/journal/segment_format.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/seeded.h"

namespace datacloud::journal {
namespace {

SecretKey counting_key() {
  Bytes bytes(32);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  return SecretKey(bytes);
}
constexpr const char* kUuid = "00112233-4455-6677-8899-aabbccddeeff";
constexpr Epoch kEpoch{7, 0xc0ffee0000000001};

JournalId uuid_bytes() {
  JournalId id{};
  EXPECT_TRUE(from_hex("00112233445566778899aabbccddeeff", id));
  return id;
}

// "label  hex" lines of the document's worked bytes.
std::string documented(const std::string& label) {
  std::ifstream file(std::string(DATACLOUD_SOURCE_DIR) + "/docs/journal.md");
  std::string line, out;
  bool inside = false;
  while (std::getline(file, line)) {
    const size_t start = line.find_first_not_of(' ');
    if (start == std::string::npos) {
      inside = false;
      continue;
    }
    if (line.compare(start, label.size() + 2, label + "  ") == 0) {
      inside = true;
      line = line.substr(start + label.size());
    } else if (inside && start < 20) {
      inside = false;
    }
    if (inside) {
      for (const char c : line) {
        if (c != ' ') out.push_back(c);
      }
    }
  }
  return out;
}

LogEntry worked_entry() {
  EntrySealer sealer(derive_metadata_key(counting_key(), kUuid), uuid_bytes(), kEpoch);
  return sealer.seal(EntryKind::data, {}, 0, as_bytes("hello")).value();
}

TEST(JournalFormat, KeysAreTheDocumentedOnes) {
  const auto metadata = derive_metadata_key(counting_key(), kUuid);
  EXPECT_EQ(to_hex(metadata.view()), documented("metadata key"));
  EXPECT_EQ(to_hex(derive_entry_key(metadata, kEpoch).view()), documented("entry key"));
}

TEST(JournalFormat, EntriesAreTheDocumentedBytes) {
  const LogEntry entry = worked_entry();
  ASSERT_EQ(entry.bytes->size(), 512u);
  EXPECT_EQ(to_hex(ByteView(*entry.bytes).first(96)), documented("header"));
  EXPECT_EQ(to_hex(entry.body()), documented("body"));
  EXPECT_TRUE(all_zero(ByteView(*entry.bytes).subspan(96 + 21)));
  EXPECT_EQ(to_hex(entry.hash), documented("chain hash"));
  EntryOpener opener(derive_metadata_key(counting_key(), kUuid));
  EXPECT_EQ(as_text(opener.open(entry).value()), "hello");
}

TEST(JournalFormat, SegmentsAreTheDocumentedBytes) {
  SegmentHeader header;
  header.journal = uuid_bytes();
  header.epoch = kEpoch;
  header.ordinal = 4;
  header.unit = 4096;
  header.base = worked_entry().position();
  header.previous = "segment-1";
  header.previous_bytes = 4096;
  const Bytes bytes = encode_segment_header(header);
  EXPECT_EQ(to_hex(ByteView(bytes).first(137)), documented("segment"));
  EXPECT_EQ(decode_segment_header(bytes).value(), header);
}

TEST(JournalFormat, ClaimsAreTheDocumentedBytes) {
  Claim claim{uuid_bytes(), kEpoch, 3, false, 12};
  Bytes bytes = encode_claim_file(claim);
  EXPECT_EQ(to_hex(ByteView(bytes).first(128)), documented("claim"));
  auto file = decode_claim_file(bytes).value();
  EXPECT_EQ(file.claim, claim);
  EXPECT_FALSE(file.superseded);
  EXPECT_EQ(file.floor, 12u);
  // A torn floor leaves the one before; a torn mark still says that the claim is doubted.
  const auto put = [&](size_t page, const Bytes& from) {
    std::copy(from.begin(), from.end(), bytes.begin() + static_cast<std::ptrdiff_t>(page * 4096));
  };
  put(floor_page_of(1), encode_floor_page(1, 20));
  put(floor_page_of(2), encode_floor_page(2, 30));
  EXPECT_EQ(decode_claim_file(bytes).value().floor, 30u);
  bytes[floor_page_of(2) * 4096 + 24] ^= 1;
  EXPECT_EQ(decode_claim_file(bytes).value().floor, 20u);
  bytes[4096 + 100] = 1;
  EXPECT_TRUE(decode_claim_file(bytes).value().superseded);
  bytes[40] ^= 1;
  EXPECT_FALSE(decode_claim_file(bytes));
}

TEST(JournalFormat, AnEntryIsSealedOnce) {
  EntrySealer sealer(counting_key(), test_journal(), {1, 1});
  const LogEntry first = sealer.seal(EntryKind::data, {}, 0, as_bytes("a")).value();
  EXPECT_REFUSED(Errc::invalid, sealer.seal(EntryKind::data, {}, 0, as_bytes("b")));
  EXPECT_TRUE(sealer.seal(EntryKind::data, first.position(), 1, as_bytes("b")));
  EXPECT_REFUSED(Errc::invalid, sealer.seal(EntryKind::data, {{1, 1}, 9, {}}, 0, Bytes(5u << 20)));
}

TEST(JournalFormat, EveryChangedBitIsNoticed) {
  EntrySealer sealer(counting_key(), test_journal(), {1, 1});
  const LogEntry entry = sealer.seal(EntryKind::data, {}, 0, Bytes(700, 'x')).value();
  for (size_t bit = 0; bit < entry.bytes->size() * 8; ++bit) {
    Bytes bytes = *entry.bytes;
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(decode_entry(bytes)) << bit;
  }
  EXPECT_TRUE(decode_entry(*entry.bytes));
  // With the CRC put right, the seal tells: fields of the header are authenticated.
  EntryHeader header = entry.header;
  header.sequence = 2;
  EntryOpener opener(counting_key());
  EXPECT_REFUSED(Errc::corrupt, opener.open(encode_entry(header, entry.body()).value()));
  EXPECT_TRUE(opener.open(entry));
}

// Whatever is behind the valid entries of a segment, the scan finds those and no other, fed in
// pieces of any size.
TEST(JournalFormat, ScansFindTheValidPrefix) {
  Seeded random;
  for (int round = 0; round < 200; ++round) {
    SegmentHeader header;
    header.journal = test_journal();
    header.epoch = {2, 2};
    header.unit = 4096;
    LogPosition last;
    Bytes bytes;
    std::vector<uint64_t> ends;
    const size_t appends = random.number(0, 6);
    for (size_t i = 0; i < appends; ++i) {
      for (const auto& entry :
           entries_after(last, {2, 2}, random.number(1, 4), random.number(0, 3000))) {
        bytes.insert(bytes.end(), entry.bytes->begin(), entry.bytes->end());
        last = entry.position();
        ends.push_back(bytes.size());
      }
      bytes.resize(round_up(bytes.size(), 4096), 0);
    }
    size_t valid = ends.size();
    switch (random.number(0, 3)) {
      case 0:  // a damaged bit ends it
        if (!ends.empty()) {
          const size_t at = random.number(0, ends.back() - 1);
          const auto owner = std::upper_bound(ends.begin(), ends.end(), at);
          const size_t start = owner == ends.begin() ? 0 : *(owner - 1);
          bytes[at] ^= 4;
          valid = static_cast<size_t>(owner - ends.begin());
          if (at >= start && valid < ends.size() && valid > 0 && at < round_up(start, 4096)) {
            // in the padding between appends: the entries before it are whole
          }
        }
        break;
      case 1:  // zeros, as a segment has them
        bytes.resize(bytes.size() + 20'000, 0);
        break;
      case 2: {  // another history's entries
        const auto other = entries_after({{1, 1}, 77, {}}, {1, 1}, 2);
        for (const auto& entry : other)
          bytes.insert(bytes.end(), entry.bytes->begin(), entry.bytes->end());
        break;
      }
      default: {
        const Bytes noise = random.bytes(random.number(0, 5000));
        bytes.insert(bytes.end(), noise.begin(), noise.end());
      }
    }
    SegmentScanner scanner(header, UINT64_MAX);
    size_t found = 0, offset = 0;
    while (offset < bytes.size()) {
      const size_t n = std::min<size_t>(bytes.size() - offset, random.number(1, 5000));
      if (!scanner.feed(ByteView(bytes).subspan(offset, n), [&](LogEntry) { ++found; })) break;
      offset += n;
    }
    EXPECT_EQ(found, valid);
    EXPECT_EQ(scanner.valid_bytes(), valid == 0 ? 0 : ends[valid - 1]);
    if (valid > 0) {  // the limit of what a later segment says is valid
      SegmentScanner limited(header, ends[valid - 1] - 1);
      size_t below = 0;
      (void)limited.feed(bytes, [&](LogEntry) { ++below; });
      EXPECT_EQ(below, valid - 1);
    }
  }
}

TEST(JournalFormat, BatchesFollowEachOther) {
  auto entries = entries_after({}, {1, 1}, 3);
  EXPECT_TRUE(LogBatch::of(entries));
  std::swap(entries[1], entries[2]);
  EXPECT_REFUSED(Errc::invalid, LogBatch::of(entries));
  EXPECT_REFUSED(Errc::invalid, LogBatch::of({}));
  EXPECT_REFUSED(Errc::invalid, LogBatch::of(entries_after({}, {1, 1}, 1025)));
  EXPECT_REFUSED(Errc::invalid, LogBatch::of(entries_after({}, {1, 1}, 3, 4'000'000)));
}

}  // namespace
}  // namespace datacloud::journal
