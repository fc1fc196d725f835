// Names of a directory, known and changed.
#include "fs/file/known_listing.h"

#include <algorithm>

namespace datacloud {
namespace {

constexpr size_t kChanged = 4096;  // names that may have changed; of large directories an eighth

}  // namespace

void KnownListing::add(uint64_t from, const pb::ReadDirReply& page, std::vector<InodeId>& added) {
  if (from != next_ || complete_) return;
  if (from == 0) end_cookie_ = page.end_cookie();
  if (page.end_cookie() != end_cookie_) return;
  for (const auto& item : page.items()) {
    next_ = item.entry().cookie();
    const auto [at, is_new] = names_.try_emplace(item.name(), item.entry());
    if (!is_new) continue;  // told by an earlier page: the file has moved within the directory
    by_cookie_[item.entry().cookie()] = &at->first;
    changed_.erase(item.name());
    added.push_back(item.entry().ino());
  }
  complete_ = page.end();
}

bool KnownListing::forget(const std::string& name, std::vector<InodeId>& dropped) {
  if (const auto known = names_.find(name); known != names_.end()) {
    dropped.push_back(known->second.ino());
    by_cookie_.erase(known->second.cookie());
    names_.erase(known);
  }
  changed_.insert(name);
  return changed_.size() <= std::max(kChanged, names_.size() / 8);
}

KnownListing::Found KnownListing::find(const std::string& name) const {
  const auto known = names_.find(name);
  if (known != names_.end()) return {State::present, known->second.ino()};
  if (complete_ && !changed_.contains(name)) return {State::absent, 0};
  return {};
}

bool KnownListing::page(uint64_t from, size_t count_max, uint64_t end_cookie,
                        pb::ReadDirReply& out) const {
  if (!complete_ || !changed_.empty() || (end_cookie != 0 && end_cookie != end_cookie_))
    return false;
  auto at = by_cookie_.upper_bound(from);
  for (; at != by_cookie_.end() && static_cast<size_t>(out.items_size()) < count_max; ++at) {
    auto* item = out.add_items();
    item->set_name(*at->second);
    *item->mutable_entry() = names_.at(*at->second);
  }
  out.set_end(at == by_cookie_.end());
  out.set_end_cookie(end_cookie_);
  return true;
}

uint64_t KnownListing::cookie_of(InodeId child) const {
  for (const auto& [name, entry] : names_)
    if (entry.ino() == child) return entry.cookie();
  return 0;
}

std::vector<InodeId> KnownListing::inodes() const {
  std::vector<InodeId> all;
  all.reserve(names_.size());
  for (const auto& [name, entry] : names_) all.push_back(entry.ino());
  return all;
}

}  // namespace datacloud
