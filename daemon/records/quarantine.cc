// See quarantine.h.
#include "daemon/records/quarantine.h"

#include <fmt/format.h>

#include "common/base/clock.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kWhyBytesMax = 500;

bool names_stripe(std::string_view key) { return key.size() == 9 && key[0] == 'S'; }

// The stripe whose objects stay because this key is in quarantine; 0: none.
result<StripeId> protected_by(const Transaction& txn, std::string_view key) {
  if (!names_stripe(key)) return StripeId{0};
  TRY(const auto record, txn.get(std::string(key)));
  return record ? StripeId{0} : StripeId{key::u64_at(key, 1)};
}

// What the objects of a stripe take, if its old record can still be read.
uint64_t bytes_of_objects(const std::string& value) {
  pb::Stripe stripe;
  if (value.empty() || !stripe.ParseFromString(value)) return 0;
  uint64_t bytes = 0;
  for (const auto& shard : stripe.shards()) {
    if (shard.state() == pb::SHARD_PRESENT) bytes += shard.bytes();
  }
  return bytes;
}

result<void> tell(const Transaction& txn, std::string_view key, std::string_view value,
                  bool with_value, pb::QuarantineReply& out) {
  auto& record = *out.add_records();
  record.set_key(std::string(key));
  record.set_what(describe_record(key));
  record.set_value_bytes(value.size());
  // A damaged note is no reason not to tell of the record.
  TRY(const auto stored, txn.get(key::quarantine_note(key)));
  pb::QuarantineNote note;
  if (stored && note.ParseFromString(*stored)) {
    record.set_since_ns(note.since_ns());
    record.set_why(note.why());
  }
  TRY(const StripeId stripe, protected_by(txn, key));
  record.set_protects(stripe);
  if (stripe != 0) record.set_objects_bytes(bytes_of_objects(std::string(value)));
  if (with_value) record.set_value(std::string(value.substr(0, kQuarantinePageBytesMax)));
  return success();
}

// "of inode 7 from block 0": two numbers behind the kind.
std::string numbers(std::string_view key, const char* first, const char* second) {
  const uint64_t a = key::u64_at(key, 1);
  if (key.size() == 17) return fmt::format("{} {}{}{}", first, a, second, key::u64_at(key, 9));
  return fmt::format("{} {}{}{}", first, a, second, key::u32_at(key, 9));
}

}  // namespace

std::string describe_record(std::string_view key) {
  const char kind = key.empty() ? '\0' : key[0];
  const auto name = [&] { return std::string(key.substr(9)); };
  if (key.size() == 9) {
    const uint64_t id = key::u64_at(key, 1);
    if (kind == 'S') return fmt::format("stripe {}", id);
    if (kind == 'L') return fmt::format("live counts of stripe {}", id);
    if (kind == 'I') return fmt::format("inode {}", id);
    if (kind == 'O') return fmt::format("inode {} to be reclaimed", id);
  }
  if (key.size() == 5) {
    const uint32_t id = key::u32_at(key, 1);
    if (kind == 'T') return fmt::format("tree {}", id);
    if (kind == 'U') return fmt::format("counters of tree {}", id);
  }
  if (key.size() == 17) {
    if (kind == 'M') return numbers(key, "run of inode", " from block ");
    if (kind == 'D') return numbers(key, "directory", ", position ");
  }
  if (key.size() == 13) {
    if (kind == 'R') return numbers(key, "owner in stripe", " from slot ");
    if (kind == 'F') return numbers(key, "former owner in stripe", " from slot ");
    if (kind == 'B') return numbers(key, "damage of stripe", " column ");
  }
  if (key.size() > 9) {
    const uint64_t ino = key::u64_at(key, 1);
    if (kind == 'E') return fmt::format("name \"{}\" in directory {}", name(), ino);
    if (kind == 'X') return fmt::format("attribute {} of inode {}", name(), ino);
  }
  if (kind == 'K' && key.size() == 10) {
    return fmt::format("repair of stripe {}", key::u64_at(key, 2));
  }
  if (kind == 'G' && key.size() == 10) return "granted ids";
  if (kind == 'A') return fmt::format("record \"{}\" of the cloud", key.substr(1));
  return kind >= 'A' && kind <= 'Z' ? fmt::format("record of kind {}", kind) : "record";
}

void put_in_quarantine(Transaction& txn, const std::string& key, const std::string& value,
                       const std::string& why) {
  pb::QuarantineNote note;
  note.set_since_ns(wall_now_ns());
  note.set_why(why.substr(0, kWhyBytesMax));
  txn.put(key::quarantine(key), value);
  txn.put(key::quarantine_note(key), note);
}

result<pb::QuarantineReply> list_quarantine(const Transaction& txn,
                                            const pb::QuarantineRequest& request) {
  pb::QuarantineReply out;
  if (request.keys_size() > 0) {
    size_t bytes = 0;
    for (const auto& key : request.keys()) {
      if (out.records_size() == kQuarantinePageMax || bytes > kQuarantinePageBytesMax) break;
      TRY(const auto value, txn.get(key::quarantine(key)));
      if (!value) continue;
      bytes += value->size();
      TRY(tell(txn, key, *value, true, out));
    }
    return out;
  }
  std::string first = key::quarantine(request.after());
  if (!request.after().empty()) first += '\0';
  std::vector<std::pair<std::string, std::string>> page;
  size_t bytes = 0;
  TRY(txn.scan(first, key::after_prefix(key::quarantine("")),
               [&](std::string_view key, std::string_view value) {
                 const bool full = page.size() == kQuarantinePageMax;
                 if (full || bytes > kQuarantinePageBytesMax) {
                   out.set_next(page.back().first);
                   return false;
                 }
                 bytes += key.size() + value.size() + kWhyBytesMax;
                 page.emplace_back(key.substr(1), value);
                 return true;
               }));
  for (const auto& [key, value] : page) {
    TRY(tell(txn, key, value, false, out));
  }
  return out;
}

result<pb::QuarantineReply> drop_from_quarantine(Transaction& txn,
                                                 const pb::QuarantineRequest& request) {
  if (request.keys_size() > kQuarantinePageMax) {
    return failure(Errc::invalid,
                   fmt::format("up to {} records are dropped at a time", kQuarantinePageMax));
  }
  pb::QuarantineReply out;
  for (const auto& key : request.keys()) {
    TRY(const auto there, txn.get(key::quarantine(key)));
    if (!there) continue;
    TRY(const StripeId stripe, protected_by(txn, key));
    txn.erase(key::quarantine(key));
    txn.erase(key::quarantine_note(key));
    out.set_dropped(out.dropped() + 1);
    if (stripe == 0) continue;
    TRY(const bool still, is_kept(txn, stripe));  // blocks name it: fsck has not mended them
    if (!still) out.set_released(out.released() + 1);
  }
  return out;
}

}  // namespace datacloud
