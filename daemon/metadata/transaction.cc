// Reads of a transaction: what has been applied with the transaction's own changes laid over it.
#include <utility>

#include "daemon/metadata/metadata_store.h"

namespace datacloud {
namespace {

constexpr size_t kStripesKept = 32;

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

}  // namespace

Error Transaction::corrupt_record(const std::string& key) {
  return Error(Errc::corrupt, "metadata record " + printable(key) +
                                  " does not parse; stop the daemon and restore its state");
}

result<std::optional<std::string>> Transaction::get(const std::string& key) const {
  if (const auto it = changes_.find(key); it != changes_.end()) return it->second;
  return base_->read(key);
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
    TRY(const auto before, base_->read(key));
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

// Hands out the kept cursor, or a new one when there is none, it is in use by an outer scan, or
// another transaction was applied since it was made. The caller puts it back after use.
std::shared_ptr<RecordCursor> Transaction::take_cursor() const {
  const Sequence now = base_->sequence();
  auto cursor = std::move(cursor_);
  cursor_.reset();
  if (!cursor || cursor_sequence_ != now) cursor = base_->cursor();
  cursor_sequence_ = now;
  return cursor;
}

result<void> Transaction::scan(
    const std::string& first, const std::string& end,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  const auto applied = take_cursor();
  ChangesCursor own(changes_);
  LayeredCursor records(own, *applied);
  for (records.first(first, end); records.valid(); records.next()) {
    if (!visit(records.key(), records.value())) break;
  }
  TRY(records.status());
  cursor_ = applied;
  return success();
}

result<std::optional<std::pair<std::string, std::string>>> Transaction::last(
    const std::string& first, const std::string& end) const {
  const auto applied = take_cursor();
  ChangesCursor own(changes_);
  LayeredCursor records(own, *applied);
  records.last(first, end);
  std::optional<std::pair<std::string, std::string>> found;
  if (records.valid()) found.emplace(records.key(), records.value());
  TRY(records.status());
  cursor_ = applied;
  return found;
}

size_t Transaction::bytes() const {
  size_t total = 0;
  for (const auto& [key, value] : changes_) total += key.size() + (value ? value->size() : 0);
  return total;
}

}  // namespace datacloud
