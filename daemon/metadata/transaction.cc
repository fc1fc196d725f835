// Reads of a transaction: the committed state with the transaction's own changes laid over it.
#include <leveldb/iterator.h>

#include <iterator>
#include <utility>

#include "daemon/metadata/metadata_store.h"

namespace datacloud {
namespace {

constexpr size_t kStripesKept = 32;

std::string_view text(const leveldb::Slice& s) { return {s.data(), s.size()}; }
leveldb::Slice slice(const std::string& s) { return {s.data(), s.size()}; }

std::string printable(const std::string& key) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : key.substr(0, 64)) {
    const auto u = static_cast<uint8_t>(c);
    if (u > 0x20 && u < 0x7f && c != '\\') {
      out.push_back(c);
    } else {
      out.append({'\\', 'x', kHex[u >> 4], kHex[u & 15]});
    }
  }
  return out;
}

result<void> status_of(const leveldb::Iterator& it) {
  const leveldb::Status s = it.status();
  if (s.ok()) return success();
  return failure(s.IsCorruption() ? Errc::corrupt : Errc::io,
                 "metadata store: " + s.ToString() + "; stop the daemon and check its disk");
}

}  // namespace

Error Transaction::corrupt_record(const std::string& key) {
  return Error(Errc::corrupt, "metadata record " + printable(key) +
                                  " does not parse; stop the daemon and restore its state");
}

result<std::optional<std::string>> Transaction::get(const std::string& key) const {
  if (const auto it = changes_.find(key); it != changes_.end()) return it->second;
  return store_->read(key);
}

void Transaction::put(const std::string& key, std::string value) {
  if (!stripes_.empty()) stripes_.erase(key);
  changes_[key] = std::move(value);
}

void Transaction::erase(const std::string& key) {
  if (!stripes_.empty()) stripes_.erase(key);
  changes_[key] = std::nullopt;
}

result<Transaction::ParsedStripe> Transaction::stripe(const std::string& key) const {
  if (const auto it = stripes_.find(key); it != stripes_.end()) return it->second;
  auto record = std::make_shared<pb::Stripe>();
  TRY(const bool found, get(key, *record));
  if (!found) return ParsedStripe();
  ParsedStripe parsed{std::move(record), false};
  if (changes_.contains(key)) {
    TRY(const auto before, store_->read(key));
    parsed.added_here = !before;
  }
  if (stripes_.size() >= kStripesKept) stripes_.clear();
  return stripes_[key] = std::move(parsed);
}

std::optional<std::pair<std::string, std::string>> Transaction::last_change(
    const std::string& first, const std::string& end) const {
  for (auto it = changes_.lower_bound(end); it != changes_.begin();) {
    --it;
    if (it->first < first) break;
    if (it->second) return std::pair(it->first, *it->second);
  }
  return std::nullopt;
}

// Hands out the kept iterator, or a new one when there is none, it is in use by an outer scan, or
// another transaction was committed since it was made. The caller puts it back after use.
std::shared_ptr<leveldb::Iterator> Transaction::take_iterator() const {
  const Sequence now = store_->sequence();
  auto it = std::move(iterator_);
  iterator_.reset();
  if (!it || iterator_sequence_ != now) it = store_->iterate();
  iterator_sequence_ = now;
  return it;
}

result<void> Transaction::scan(
    const std::string& first, const std::string& end,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  const auto stored = take_iterator();
  stored->Seek(slice(first));
  auto changed = changes_.lower_bound(first);
  for (;;) {
    const bool has_stored = stored->Valid() && text(stored->key()) < end;
    const bool has_changed = changed != changes_.end() && changed->first < end;
    if (!has_stored && !has_changed) break;
    const int order = !has_changed  ? -1
                      : !has_stored ? 1
                                    : text(stored->key()).compare(changed->first);
    bool more = true;
    if (order < 0) {
      more = visit(text(stored->key()), text(stored->value()));
    } else if (changed->second) {
      more = visit(changed->first, *changed->second);
    }
    if (order <= 0) stored->Next();
    if (order >= 0) ++changed;
    if (!more) break;
  }
  TRY(status_of(*stored));
  iterator_ = stored;
  return success();
}

result<std::optional<std::pair<std::string, std::string>>> Transaction::last(
    const std::string& first, const std::string& end) const {
  std::optional<std::pair<std::string, std::string>> found;
  const auto stored = take_iterator();
  stored->Seek(slice(end));
  if (stored->Valid()) {
    stored->Prev();
  } else if (stored->status().ok()) {
    stored->SeekToLast();
  }
  auto changed = changes_.lower_bound(end);
  while (!found) {
    const bool has_stored = stored->Valid() && text(stored->key()) >= first;
    const bool has_changed = changed != changes_.begin() && std::prev(changed)->first >= first;
    if (!has_stored && !has_changed) break;
    const int order = !has_changed  ? 1
                      : !has_stored ? -1
                                    : text(stored->key()).compare(std::prev(changed)->first);
    if (order > 0) {
      found.emplace(stored->key().ToString(), stored->value().ToString());
    } else if (const auto& change = *std::prev(changed); change.second) {
      found.emplace(change.first, *change.second);
    }
    if (order >= 0) stored->Prev();
    if (order <= 0) --changed;
  }
  TRY(status_of(*stored));
  iterator_ = stored;
  return found;
}

size_t Transaction::bytes() const {
  size_t total = 0;
  for (const auto& [key, value] : changes_) total += key.size() + (value ? value->size() : 0);
  return total;
}

}  // namespace datacloud
