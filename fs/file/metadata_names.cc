// Names that are known without asking, and when to ask for many at once.
//
// A program that walks through a tree (ls -lR, git status, tar) asks for one name after the other.
// Seen from here that is: several names of one directory, and then of its subdirectories. From the
// third name on the directory is listed, from the second subdirectory on their listings come
// together, as many as fit into one answer. A single open far down a tree asks for nothing that it
// does not need.
#include "fs/base/interruption.h"
#include "fs/file/metadata_client.h"

namespace datacloud {
namespace {

constexpr uint32_t kMisses = 3;
constexpr uint32_t kMissesAgain = 8;
constexpr uint32_t kWalked = 2;
constexpr uint32_t kFirstPage = 512;
constexpr uint32_t kNextPage = 4096;
constexpr uint32_t kBelow = 2048;
constexpr uint32_t kBesidePage = 64;  // of the parent's names, which are known already

}  // namespace

std::optional<InodePtr> MetadataClient::known_entry(const InodePtr& directory,
                                                    const std::string& name) {
  KnownListing::Found found;
  {
    std::lock_guard lock(directory->mutex);
    const auto& listing = directory->listing;
    if (!listing || !holds(*directory, pb::LEASE_READ) || directory->recalling ||
        listing->session() != directory->lease_session)
      return std::nullopt;
    found = listing->find(name);
  }
  if (found.state == KnownListing::State::absent) return InodePtr();
  if (found.state == KnownListing::State::unknown) return std::nullopt;
  const InodePtr inode = table_.find(found.ino);
  if (!inode) return std::nullopt;
  std::lock_guard lock(inode->mutex);
  if (!holds(*inode, pb::LEASE_READ) || inode->recalling || !inode->attr_known || inode->attr_stale)
    return std::nullopt;
  return inode;
}

bool MetadataClient::known_page(const InodePtr& directory, uint64_t from, uint32_t count_max,
                                uint64_t end_cookie, Answer& answer) {
  auto& page = *answer.reply.mutable_readdir();
  {
    std::lock_guard lock(directory->mutex);
    const auto& listing = directory->listing;
    if (!listing || !holds(*directory, pb::LEASE_READ) || directory->recalling ||
        listing->session() != directory->lease_session ||
        !listing->page(from, count_max, end_cookie, page))
      return false;
  }
  for (const auto& item : page.items()) answer.entries.push_back(table_.find(item.entry().ino()));
  return true;
}

result<void> MetadataClient::fetch(pb::ReadDirRequest what) {
  pb::Request request;
  what.set_plus(true);
  *request.mutable_readdir() = std::move(what);
  TRY(auto answer, call(std::move(request)));
  for (const auto& inode : answer.entries)
    if (inode) table_.release_if_unused(inode);
  return success();
}

// With the directories that follow it in its parent, when programs walk through that.
result<bool> MetadataClient::fetch_beside(const InodePtr& directory) {
  InodeId parent_ino = 0;
  {
    std::lock_guard lock(directory->mutex);
    if (directory->attr_known) parent_ino = directory->attr.parent();
  }
  const InodePtr parent =
      parent_ino != 0 && parent_ino != directory->ino ? table_.find(parent_ino) : nullptr;
  if (!parent) return false;
  pb::ReadDirRequest request;
  {
    std::lock_guard lock(parent->mutex);
    if (parent->walked < kWalked || !parent->listing || !parent->listing->complete()) return false;
    const uint64_t cookie = parent->listing->cookie_of(directory->ino);
    if (cookie == 0) return false;
    request.set_ino(parent_ino);
    request.set_cookie(cookie - 1);
    request.set_end_cookie(parent->listing->end_cookie());
  }
  request.set_count_max(kBesidePage);
  request.set_below_max(kBelow);
  TRY(fetch(std::move(request)));
  std::lock_guard lock(directory->mutex);
  return directory->listing && directory->listing->complete();
}

result<bool> MetadataClient::fetch_names(const InodePtr& directory) {
  pb::ReadDirRequest request;
  bool begun = false, enough = false, again = false;
  InodeId parent_ino = 0;
  {
    std::unique_lock lock(directory->mutex);
    const auto& listing = directory->listing;
    const bool usable =
        listing && listing->session() == session() && holds(*directory, pb::LEASE_READ);
    if (directory->too_large) return false;
    begun = ++directory->misses == 1 && !usable;
    // Of what is known but for names that have changed, many must be asked for.
    again = usable && listing->complete();
    enough = directory->misses >= (again ? kMissesAgain + listing->size() / 32 : kMisses);
    if (again && !enough) return false;
    if (directory->attr_known) parent_ino = directory->attr.parent();
    if (directory->fetching) {
      TRY(wait_interruptibly(directory->changed, lock, [&] { return !directory->fetching; }));
      return true;
    }
  }
  bool walks = false;
  if (const InodePtr parent = parent_ino != directory->ino ? table_.find(parent_ino) : nullptr) {
    std::lock_guard lock(parent->mutex);
    if (begun) ++parent->walked;
    walks = parent->walked >= kWalked && parent->listing && parent->listing->complete();
  }
  if (!enough && !walks) return false;
  {
    std::unique_lock lock(directory->mutex);
    if (directory->fetching) {
      TRY(wait_interruptibly(directory->changed, lock, [&] { return !directory->fetching; }));
      return true;
    }
    directory->fetching = true;
  }
  auto fetched = again ? result<bool>(false) : fetch_beside(directory);
  if (fetched && !fetched.value()) {
    {
      std::lock_guard lock(directory->mutex);
      const auto& listing = directory->listing;
      request.set_ino(directory->ino);
      const bool goes_on = listing && !listing->complete();
      request.set_cookie(goes_on ? listing->next() : 0);
      request.set_end_cookie(goes_on ? listing->end_cookie() : 0);
      request.set_count_max(request.cookie() == 0 ? kFirstPage : kNextPage);
      if (directory->walked >= kWalked && request.cookie() == 0) request.set_below_max(kBelow);
    }
    if (auto page = fetch(std::move(request)); !page) fetched = failure(page.error());
  }
  {
    std::lock_guard lock(directory->mutex);
    directory->fetching = false;
    if (again) directory->misses = 0;
    directory->changed.notify_all();
  }
  if (!fetched) return failure(fetched.error());
  return true;
}

result<bool> MetadataClient::fetch_listing(const InodePtr& directory) {
  InodeId parent_ino = 0;
  {
    std::lock_guard lock(directory->mutex);
    if (directory->attr_known) parent_ino = directory->attr.parent();
  }
  if (const InodePtr parent = parent_ino != directory->ino ? table_.find(parent_ino) : nullptr) {
    std::lock_guard lock(parent->mutex);
    ++parent->walked;
  }
  return fetch_beside(directory);
}

}  // namespace datacloud
