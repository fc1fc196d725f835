// The served log's messages (log_messages.h).
#include "daemon/journal/log_messages.h"

#include <algorithm>
#include <string>

#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {

pb::StoreLog make_log_call(pb::StoreLogCall call, const JournalId& journal, const Epoch& epoch) {
  pb::StoreLog out;
  out.set_call(call);
  out.set_journal(std::string(as_text(journal)));
  out.set_epoch(epoch.number);
  out.set_nonce(epoch.nonce);
  return out;
}

result<JournalId> journal_of(const pb::StoreLog& call) {
  JournalId id;
  if (call.journal().size() != id.size()) return failure(Errc::invalid, "not a journal's id");
  std::copy(call.journal().begin(), call.journal().end(), id.begin());
  return id;
}

void set_log_position(std::string& out, const LogPosition& position) {
  Bytes bytes(kPositionBytes);
  put_position(bytes, 0, position);
  out = std::string(as_text(bytes));
}

result<LogPosition> get_log_position(const std::string& text) {
  if (text.size() != kPositionBytes) return failure(Errc::invalid, "not a position of a journal");
  return get_position(as_bytes(text), 0);
}

void set_log_head(pb::StoreLogHead& out, const LogHead& head) {
  out.set_promised(head.promised.number);
  out.set_promised_nonce(head.promised.nonce);
  out.set_begun(head.begun.number);
  out.set_begun_nonce(head.begun.nonce);
  set_log_position(*out.mutable_last(), head.last);
  out.set_floor(head.floor);
  out.set_sealed(head.sealed);
}

result<LogHead> get_log_head(const pb::StoreLogHead& in, const JournalId& journal) {
  LogHead head;
  head.journal = journal;
  head.promised = {in.promised(), in.promised_nonce()};
  head.begun = {in.begun(), in.begun_nonce()};
  TRY(head.last, get_log_position(in.last()));
  head.floor = in.floor();
  head.sealed = in.sealed();
  if (head.floor == 0) return failure(Errc::corrupt, "a journal's floor is 1 at least");
  return head;
}

Bytes join_entries(const std::vector<LogEntry>& entries) {
  size_t size = 0;
  for (const auto& entry : entries) size += entry.bytes->size();
  Bytes out;
  out.reserve(size);
  for (const auto& entry : entries) {
    out.insert(out.end(), entry.bytes->begin(), entry.bytes->end());
  }
  return out;
}

result<std::vector<LogEntry>> split_entries(ByteView bytes, bool batch) {
  std::vector<LogEntry> out;
  while (!bytes.empty()) {
    if (batch && out.size() == kBatchEntriesMax) {
      return failure(Errc::corrupt, "more than 1024 entries in an append");
    }
    TRY(auto entry, decode_entry(bytes));
    bytes = bytes.subspan(entry.bytes->size());
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace datacloud::journal
