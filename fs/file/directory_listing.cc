// Listings: the end, and names that move.
#include "fs/file/directory_listing.h"

namespace datacloud {

void DirectoryListing::ask(pb::ReadDirRequest& request) const {
  request.set_end_cookie(end_cookie_);
}

void DirectoryListing::learn(const pb::ReadDirReply& reply) { end_cookie_ = reply.end_cookie(); }

// A file renamed in place keeps its cookie, so that one temporary name, given to one file after the
// other, would be met at each of them.
bool DirectoryListing::shows(const pb::ReadDirReply::Item& item) {
  if (item.entry().renamed() < end_cookie_) return true;
  const uint64_t cookie = item.entry().cookie();
  auto known = renamed_.find(item.name());
  if (known == renamed_.end()) {
    if (renamed_.size() < kRenamedNamesMax) renamed_.emplace(item.name(), cookie);
    return true;
  }
  if (cookie > known->second) return false;
  known->second = cookie;
  return true;
}

}  // namespace datacloud
