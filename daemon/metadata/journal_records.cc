// Encodes and decodes what the store notes of the journal (journal_records.h).
#include "daemon/metadata/journal_records.h"

#include <fmt/format.h>

#include <array>
#include <set>

#include "common/base/bytes.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/journal/quorum_rules.h"

namespace datacloud {
namespace {

constexpr uint64_t kSegmentMin = 1u << 20, kSegmentMax = 64u << 20;

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

constexpr uint32_t kBytesType = 2;  // of the wire format: with a length

void append_number(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

size_t number_bytes(uint64_t value) {
  size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

size_t field_bytes(std::string_view text) { return 1 + number_bytes(text.size()) + text.size(); }

void append_field(std::string& out, int field, std::string_view text) {
  out.push_back(static_cast<char>(static_cast<uint32_t>(field) << 3 | kBytesType));
  append_number(out, text.size());
  out.append(text);
}

}  // namespace

void append_change(std::string& encoded, int field, std::string_view key,
                   const std::string* value) {
  encoded.push_back(static_cast<char>(static_cast<uint32_t>(field) << 3 | kBytesType));
  append_number(encoded, field_bytes(key) + (value != nullptr ? field_bytes(*value) : 0));
  append_field(encoded, 1, key);
  if (value != nullptr) append_field(encoded, 2, *value);
}

void append_batch_fields(std::string& encoded, uint64_t sequence, bool more) {
  encoded.push_back(1 << 3);
  append_number(encoded, sequence);
  if (!more) return;
  encoded.push_back(3 << 3);
  encoded.push_back(1);
}

std::string encode_position(const journal::LogPosition& position) {
  std::array<uint8_t, journal::kPositionBytes> bytes{};
  journal::put_position(MutableByteView(bytes.data(), bytes.size()), 0, position);
  return std::string(as_text(ByteView(bytes.data(), bytes.size())));
}

result<journal::LogPosition> decode_position(std::string_view value) {
  if (value.size() != journal::kPositionBytes) {
    return failure(Errc::corrupt, "the record of the position in the journal has " +
                                      std::to_string(value.size()) +
                                      " bytes instead of 56; run datacloud fsck");
  }
  return journal::get_position(as_bytes(value), 0);
}

bool valid_set(const pb::JournalSet& set) {
  const std::set<uint32_t> sites(set.sites().begin(), set.sites().end());
  return set.journal().size() == journal::JournalId().size() && set.sites_size() > 0 &&
         set.sites_size() <= journal::kJournalSitesMax &&
         sites.size() == static_cast<size_t>(set.sites_size()) && !sites.contains(0) &&
         set.losses() < journal::kJournalSitesMax && set.segment_bytes() >= kSegmentMin &&
         set.segment_bytes() <= kSegmentMax;
}

result<void> check_journal_strength(const pb::JournalSet& set, int data_losses,
                                    bool accept_weaker) {
  const auto rules = journal::quorum_rules(set.sites_size(), data_losses);
  if (rules.losses >= data_losses || accept_weaker) return success();
  return failure(
      Errc::invalid,
      fmt::format("a journal at {} {} survives the loss of {}, and files that of {} sites: name at "
                  "least {} sites, better {}, or accept it with --accept-weaker",
                  set.sites_size(), set.sites_size() == 1 ? "site" : "sites",
                  rules.losses == 0 ? "none" : std::to_string(rules.losses), data_losses,
                  data_losses + 1, 2 * data_losses + 1));
}

std::vector<std::string> describe_strength(const pb::JournalSet& set, int data_losses) {
  const auto rules = journal::quorum_rules(set.sites_size(), static_cast<int>(set.losses()));
  std::vector<std::string> lines;
  lines.push_back(
      fmt::format("at {} sites: a change is durable at {}, and survives the loss of any {}; "
                  "changes go on after "
                  "the loss of {}",
                  rules.sites, rules.commit, rules.commit - 1,
                  rules.writable == 0 ? "none" : fmt::format("any {}", rules.writable)));
  if (rules.losses < data_losses) {
    lines.push_back(fmt::format("files survive the loss of {} sites, the journal only that of {}",
                                data_losses, rules.commit - 1));
  }
  if (rules.witnesses > 0) {
    lines.push_back(fmt::format(
        "{} more {} the journal alone would let changes go on after the loss of {}",
        rules.witnesses, rules.witnesses == 1 ? "site for" : "sites for", rules.losses));
  }
  return lines;
}

result<journal::JournalId> journal_id(const std::string& cloud_uuid) {
  journal::JournalId id{};
  size_t digits = 0;
  for (const char c : cloud_uuid) {
    if (c == '-') continue;
    if (digit(c) < 0 || digits == 2 * id.size()) break;
    id[digits / 2] = static_cast<uint8_t>(id[digits / 2] << 4 | digit(c));
    ++digits;
  }
  if (digits == 2 * id.size() && cloud_uuid.size() == 36) return id;
  return failure(Errc::invalid, "the cloud's id \"" + cloud_uuid + "\" is no UUID");
}

}  // namespace datacloud
