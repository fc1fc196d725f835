// Reading directories. Offsets given to the kernel are the daemon's cookies (1 and 2 are "." and
// ".."), stable while an entry lives; a page of entries is kept per open directory so that one
// request to the daemon serves many of the kernel's. The first page of a listing, also of the next
// one after rewinddir, says where it ends (docs/protocol.md, "Listings"). The kernel is not let
// keep listings (FOPEN_CACHE_DIR), so that every one begins here. Whoever reads on gets the next
// page asked for beforehand, one at a time.
#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "fs/base/interruption.h"
#include "fs/file/directory_listing.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

constexpr uint32_t kPageEntries = 512;       // the first: most directories are small
constexpr uint32_t kNextPageEntries = 4096;  // whoever reads on reads to the end

constexpr uint64_t kDots = 2;  // the last position before the first name

constexpr Duration kAheadPatience = seconds(30);

// A page that is asked for before the kernel wants it. Shared with the callback.
struct PageAhead {
  uint64_t cookie = 0;
  uint64_t session = 0;
  uint64_t changes = 0;  // the directory's entry_changes before it was asked for
  std::mutex mutex;
  std::condition_variable_any answered;
  std::optional<result<MetadataClient::Answer>> answer;
  bool unwanted = false;
};

struct DirectoryHandle {
  InodePtr inode;
  std::mutex mutex;
  MetadataClient::Answer page;
  uint64_t page_from = 0;  // the cookie the page was asked for
  bool page_valid = false;
  uint64_t page_changes = 0;  // the directory's entry_changes before the page was asked for
  DirectoryListing listing;
  std::shared_ptr<PageAhead> ahead;
};

// Shared, because the kernel may close a directory as soon as it has a reply, while the thread that
// sent it still unlocks.
using HandlePointer = std::shared_ptr<DirectoryHandle>;

const HandlePointer& directory_of(const fuse_file_info* fi) {
  return *reinterpret_cast<HandlePointer*>(fi->fh);
}

void release_inodes(Mount& mount, const MetadataClient::Answer& page) {
  for (const auto& inode : page.entries)
    if (inode) mount.table().release_if_unused(inode);
}

void drop_page(Mount& mount, DirectoryHandle& handle) {
  release_inodes(mount, handle.page);
  handle.page = {};
  handle.page_valid = false;
}

void drop_ahead(Mount& mount, DirectoryHandle& handle) {
  const auto ahead = std::exchange(handle.ahead, nullptr);
  if (!ahead) return;
  std::lock_guard lock(ahead->mutex);
  ahead->unwanted = true;
  if (ahead->answer && *ahead->answer) release_inodes(mount, ahead->answer->value());
}

void closed(Mount& mount, const InodePtr& inode) {
  {
    std::lock_guard lock(inode->mutex);
    --inode->opens;
  }
  // Recalled while it was open, perhaps because another mount removed it: the daemon waits for the
  // last close.
  mount.table().release_open_mark(inode);
  mount.table().release_if_unused(inode);
}

// An open directory stays, as an open file does, when it is removed by whatever mount.
void op_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  auto inode = known_inode(mount, ino);
  if (!inode) return reply_error(req, inode.error());
  {
    std::lock_guard lock(inode.value()->mutex);
    ++inode.value()->opens;  // before the lease: a recall then leaves the registration alone
  }
  if (auto kept = mount.metadata().ensure_kept(inode.value()); kept) {
    auto handle = std::make_unique<HandlePointer>(std::make_shared<DirectoryHandle>());
    (*handle)->inode = inode.value();
    fi->fh = reinterpret_cast<uint64_t>(handle.get());
    if (fuse_reply_open(req, fi) == 0) return (void)handle.release();
  } else {
    reply_error(req, kept.error());
  }
  closed(mount, inode.value());
}

void op_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  const std::unique_ptr<HandlePointer> handle(reinterpret_cast<HandlePointer*>(fi->fh));
  {
    std::lock_guard lock((*handle)->mutex);
    drop_page(mount_of(req), **handle);
    drop_ahead(mount_of(req), **handle);
  }
  closed(mount_of(req), (*handle)->inode);
  fuse_reply_err(req, 0);
}

// Always with attributes: whoever lists names often asks for them next.
pb::Request page_request(const DirectoryHandle& handle, uint64_t cookie) {
  pb::Request request;
  auto* readdir = request.mutable_readdir();
  readdir->set_ino(handle.inode->ino);
  readdir->set_cookie(cookie);
  readdir->set_count_max(cookie <= kDots ? kPageEntries : kNextPageEntries);
  readdir->set_plus(true);
  handle.listing.ask(*readdir);
  return request;
}

// Asks for the page behind the handle's own, unless that is the last or all names are known.
void read_ahead(Mount& mount, DirectoryHandle& handle) {
  const auto& page = handle.page.reply.readdir();
  if (handle.ahead || !handle.page_valid || page.end() || page.items_size() == 0) return;
  {
    std::lock_guard lock(handle.inode->mutex);
    const auto& listing = handle.inode->listing;
    if (listing && listing->complete() && mount.metadata().holds(*handle.inode, pb::LEASE_READ))
      return;
  }
  const auto ahead = std::make_shared<PageAhead>();
  ahead->cookie = page.items(page.items_size() - 1).entry().cookie();
  ahead->session = mount.metadata().session();
  ahead->changes = entry_changes(*handle.inode);
  handle.ahead = ahead;
  mount.metadata().ask(page_request(handle, ahead->cookie), kAheadPatience,
                       [&mount, ahead](result<MetadataClient::Answer> answer) {
                         std::lock_guard lock(ahead->mutex);
                         if (ahead->unwanted) {
                           if (answer) release_inodes(mount, answer.value());
                           return;
                         }
                         ahead->answer.emplace(std::move(answer));
                         ahead->answered.notify_all();
                       });
}

// The page asked for beforehand becomes the handle's, if nothing has changed in the directory
// since: one that is asked for now would be the same. False: it is none.
result<bool> take_ahead(Mount& mount, DirectoryHandle& handle, uint64_t cookie) {
  const auto ahead = handle.ahead;
  if (ahead && ahead->cookie == cookie) {
    std::unique_lock lock(ahead->mutex);
    TRY(wait_interruptibly(ahead->answered, lock, [&] { return ahead->answer.has_value(); }));
    bool same = ahead->answer->has_value();
    if (same) {
      std::lock_guard inode_lock(handle.inode->mutex);
      same = mount.metadata().session() == ahead->session &&
             handle.inode->entry_changes == ahead->changes &&
             mount.metadata().holds(*handle.inode, pb::LEASE_READ);
    }
    if (same) {
      handle.page = std::move(ahead->answer->value());
      handle.page_changes = ahead->changes;
      handle.ahead.reset();
      return true;
    }
  }
  drop_ahead(mount, handle);
  return false;
}

result<void> fetch_page(Mount& mount, DirectoryHandle& handle, uint64_t cookie) {
  drop_page(mount, handle);
  TRY(bool have, take_ahead(mount, handle, cookie));
  if (!have) handle.page_changes = entry_changes(*handle.inode);
  pb::Request request = page_request(handle, cookie);
  auto* readdir = request.mutable_readdir();
  MetadataClient& metadata = mount.metadata();
  const auto known = [&] {
    handle.page = {};
    return metadata.known_page(handle.inode, cookie, readdir->count_max(), readdir->end_cookie(),
                               handle.page);
  };
  have = have || known();
  if (!have && readdir->end_cookie() == 0) {
    TRY(const bool fetched, metadata.fetch_listing(handle.inode));
    have = fetched && known();
  }
  if (!have) {
    // What is known of the names begins with the first one.
    if (cookie <= kDots) readdir->set_cookie(0);
    TRY(handle.page, metadata.call(std::move(request)));
  }
  handle.listing.learn(handle.page.reply.readdir());
  handle.page_from = cookie;
  handle.page_valid = true;
  return success();
}

// The index in the handle's page of the first entry of the listing above `cookie`, fetching pages
// as needed; the page's size at the end of the listing.
result<int> find_entries(Mount& mount, DirectoryHandle& handle, uint64_t cookie) {
  if (!handle.page_valid || cookie < handle.page_from) {
    TRY(fetch_page(mount, handle, cookie));
  }
  for (;;) {
    const auto& page = handle.page.reply.readdir();
    for (int i = 0; i < page.items_size(); ++i)
      if (page.items(i).entry().cookie() > cookie && handle.listing.shows(page.items(i))) return i;
    if (page.end() || page.items_size() == 0) return page.items_size();
    const uint64_t last = page.items(page.items_size() - 1).entry().cookie();
    TRY(fetch_page(mount, handle, std::max(cookie, last)));
  }
}

// Fills the kernel's buffer; every entry added with attributes counts a lookup.
class DirectoryReply {
 public:
  DirectoryReply(fuse_req_t req, size_t size) : req_(req), buffer_(size) {}

  bool add(const char* name, uint64_t ino, mode_t type, uint64_t next) {
    struct stat st {};
    st.st_ino = ino;
    st.st_mode = type;
    return took(fuse_add_direntry(req_, at(), left(), name, &st, static_cast<off_t>(next)));
  }
  // An entry without a node id, so that the kernel counts no lookup.
  bool add_plain_plus(const char* name, uint64_t ino, mode_t type, uint64_t next) {
    fuse_entry_param entry{};
    entry.attr.st_ino = ino;
    entry.attr.st_mode = type;
    return took(fuse_add_direntry_plus(req_, at(), left(), name, &entry, static_cast<off_t>(next)));
  }
  bool add_plus(const char* name, const fuse_entry_param& entry, uint64_t next) {
    return took(fuse_add_direntry_plus(req_, at(), left(), name, &entry, static_cast<off_t>(next)));
  }
  void send() { fuse_reply_buf(req_, buffer_.data(), used_); }
  void clear() { used_ = 0; }

 private:
  char* at() { return buffer_.data() + used_; }
  size_t left() const { return buffer_.size() - used_; }
  bool took(size_t needed) {
    if (needed > left()) return false;
    used_ += needed;
    return true;
  }
  fuse_req_t req_;
  std::vector<char> buffer_;
  size_t used_ = 0;
};

// Adds an entry; with a node id (and a counted lookup, remembered in `counted`) when asked for and
// its attributes may be cached.
bool add_item(Mount& mount, DirectoryReply& reply, DirectoryHandle& handle, int i, bool plus,
              bool with_node, std::vector<InodeId>& counted) {
  const auto& item = handle.page.reply.readdir().items(i);
  const char* name = item.name().c_str();
  const uint64_t ino = item.entry().ino(), cookie = item.entry().cookie();
  if (!plus) return reply.add(name, ino, item.entry().type(), cookie);
  const bool has_inode = i < static_cast<int>(handle.page.entries.size());
  const InodePtr inode = with_node && has_inode ? handle.page.entries[i] : nullptr;
  bool usable = false;
  if (inode) {
    std::lock_guard lock(inode->mutex);
    usable =
        inode->attr_known && !inode->attr_stale && mount.metadata().holds(*inode, pb::LEASE_READ);
  }
  if (!usable) return reply.add_plain_plus(name, ino, item.entry().type(), cookie);
  mount.table().add_lookup(inode);
  if (reply.add_plus(name, to_entry(mount, handle.inode, inode), cookie)) {
    counted.push_back(inode->ino);
    return true;
  }
  mount.table().forget(inode->ino, 1);
  return false;
}

bool add_dots(const Mount& mount, DirectoryReply& reply, DirectoryHandle& handle, uint64_t& cookie,
              bool plus) {
  uint64_t parent = handle.inode->ino;
  {
    std::lock_guard lock(handle.inode->mutex);
    if (handle.inode->ino != mount.root() && handle.inode->attr_known &&
        handle.inode->attr.parent())
      parent = handle.inode->attr.parent();
  }
  for (; cookie < 2; ++cookie) {
    const char* name = cookie == 0 ? "." : "..";
    const uint64_t ino = cookie == 0 ? handle.inode->ino : parent;
    if (!(plus ? reply.add_plain_plus(name, ino, S_IFDIR, cookie + 1)
               : reply.add(name, ino, S_IFDIR, cookie + 1)))
      return false;
  }
  return true;
}

// The kernel believes node ids of a listing as of the reply. A page fetched before the directory
// changed therefore gives names only; the check and the reply are one step for a recall.
void read_directory(fuse_req_t req, size_t size, off_t offset, fuse_file_info* fi, bool plus) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  const HandlePointer kept = directory_of(fi);
  DirectoryHandle& handle = *kept;
  std::lock_guard lock(handle.mutex);
  const auto from = static_cast<uint64_t>(offset);
  if (from == 0) {  // opened or rewound: see what is there now
    drop_page(mount, handle);
    drop_ahead(mount, handle);
    handle.listing = {};
  }
  DirectoryReply reply(req, size);
  for (const bool with_nodes : {true, false}) {
    reply.clear();
    uint64_t cookie = from;
    std::vector<InodeId> counted;
    if (!add_dots(mount, reply, handle, cookie, plus)) return reply.send();
    auto first = find_entries(mount, handle, cookie);
    if (!first) return reply_error(req, first.error());
    const int count = handle.page.reply.readdir().items_size();
    const bool nodes = with_nodes && entry_changes(*handle.inode) == handle.page_changes;
    int i = first.value();
    for (; i < count; ++i) {
      if (!handle.listing.shows(handle.page.reply.readdir().items(i))) continue;
      if (!add_item(mount, reply, handle, i, plus, nodes, counted)) break;
    }
    // Who has half of a page, or comes back for more, reads on.
    if (from > kDots || i >= count / 2) read_ahead(mount, handle);
    std::unique_lock inode_lock(handle.inode->mutex);
    if (counted.empty() || handle.inode->entry_changes == handle.page_changes) return reply.send();
    inode_lock.unlock();
    for (const InodeId ino : counted) mount.table().forget(ino, 1);
  }
}

void op_readdir(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
  read_directory(req, size, offset, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
  read_directory(req, size, offset, fi, true);
}

// On the root directory everything written through this mount is made durable ("sync MOUNTPOINT"):
// the kernel does not pass sync(2) on to FUSE file systems.
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  if (ino == mount_of(req).root()) {
    mount_of(req).read_flags();
    if (auto done = mount_of(req).io().flush_all(); !done) return reply_told(req, done);
  }
  pb::Request request;
  request.mutable_sync();
  reply_result(req, mount_of(req).metadata().run(std::move(request)));
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& ops) {
  ops.opendir = op_opendir;
  ops.releasedir = op_releasedir;
  ops.readdir = op_readdir;
  ops.readdirplus = op_readdirplus;
  ops.fsyncdir = op_fsyncdir;
}

}  // namespace datacloud
