// Changes by inode, and which inodes a request concerns.
#include "daemon/sessions/undurable_changes.h"

#include <algorithm>

namespace datacloud {
namespace {

void add_of_request(const pb::Request& request, std::vector<InodeId>& out) {
  switch (request.op_case()) {
    case pb::Request::kLookup:
      return out.push_back(request.lookup().parent());
    case pb::Request::kLease:
      return out.push_back(request.lease().ino());
    case pb::Request::kSetattr:
      return out.push_back(request.setattr().ino());
    case pb::Request::kCreate:
      return out.push_back(request.create().parent());
    case pb::Request::kLink:
      out.push_back(request.link().ino());
      return out.push_back(request.link().parent());
    case pb::Request::kUnlink:
      return out.push_back(request.unlink().parent());
    case pb::Request::kRename:
      out.push_back(request.rename().parent());
      return out.push_back(request.rename().new_parent());
    case pb::Request::kReaddir:
      return out.push_back(request.readdir().ino());
    case pb::Request::kGetxattr:
      return out.push_back(request.getxattr().ino());
    case pb::Request::kSetxattr:
      return out.push_back(request.setxattr().ino());
    case pb::Request::kListxattr:
      return out.push_back(request.listxattr().ino());
    case pb::Request::kRemovexattr:
      return out.push_back(request.removexattr().ino());
    case pb::Request::kMap:
      return out.push_back(request.map().ino());
    case pb::Request::kCommit:
      for (const auto& update : request.commit().updates()) {
        out.push_back(update.ino());
        for (const auto& clone : update.clones()) out.push_back(clone.from_ino());
      }
      return;
    default:
      return;
  }
}

void add_of_listing(const pb::ReadDirReply& listing, std::vector<InodeId>& out) {
  for (const auto& item : listing.items())
    if (item.has_inode()) out.push_back(item.inode().ino());
  for (const auto& below : listing.below()) {
    out.push_back(below.ino());
    for (const auto& item : below.listing().items())
      if (item.has_inode()) out.push_back(item.inode().ino());
  }
}

}  // namespace

std::vector<InodeId> inodes_concerned(const pb::Request& request, const pb::Reply& reply) {
  std::vector<InodeId> out;
  add_of_request(request, out);
  if (reply.attr().has_inode()) out.push_back(reply.attr().inode().ino());
  if (reply.has_rename()) {
    out.push_back(reply.rename().moved().ino());
    if (reply.rename().has_replaced()) out.push_back(reply.rename().replaced().ino());
  }
  if (reply.has_readdir()) add_of_listing(reply.readdir(), out);
  return out;
}

void UndurableChanges::note(SessionId author, Sequence sequence,
                            const std::vector<InodeId>& inodes) {
  if (changes_.empty()) {
    author_ = author;
    several_ = false;
  }
  several_ = several_ || author_ != author;
  for (const InodeId ino : inodes) {
    const auto [it, added] = changes_.try_emplace(ino, Change{author, sequence});
    if (!added && it->second.author != author) it->second.author = 0;
    it->second.sequence = sequence;
    order_.emplace_back(sequence, ino);
  }
}

bool UndurableChanges::by_others(SessionId reader, const std::vector<InodeId>& inodes) const {
  return std::any_of(inodes.begin(), inodes.end(), [&](InodeId ino) {
    const auto it = changes_.find(ino);
    return it != changes_.end() && it->second.author != reader;
  });
}

void UndurableChanges::durable(Sequence sequence) {
  while (!order_.empty() && order_.front().first <= sequence) {
    const auto it = changes_.find(order_.front().second);
    if (it != changes_.end() && it->second.sequence <= sequence) changes_.erase(it);
    order_.pop_front();
  }
}

}  // namespace datacloud
