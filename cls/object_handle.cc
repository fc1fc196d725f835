// Ceph's class calls take int offsets and buffer lists; this is where they end.
#include "cls/object_handle.h"

#include <algorithm>
#include <cerrno>

#include "common/store/rados/osd_class_abi.h"
#include "common/tags/object_requests.h"

namespace datacloud {
namespace {

constexpr uint64_t kOffsetMax = INT32_MAX - kObjectBytesMax;

}  // namespace

ByteView view_of(ceph::bufferlist& list) {
  if (list.length() == 0) return {};
  return {reinterpret_cast<const uint8_t*>(list.c_str()), list.length()};
}

void append_to(ceph::bufferlist& list, ByteView bytes) {
  if (!bytes.empty()) {
    list.append(reinterpret_cast<const char*>(bytes.data()), static_cast<unsigned>(bytes.size()));
  }
}

int ObjectHandle::size(uint64_t& bytes) {
  time_t changed = 0;
  return cls_cxx_stat(context_, &bytes, &changed);
}

int ObjectHandle::read(uint64_t offset, uint64_t length, Bytes& out) {
  out.clear();
  if (length > kObjectBytesMax || offset > kOffsetMax) return -EINVAL;
  if (length == 0) return 0;  // Ceph would read to the end
  ceph::bufferlist list;
  const int rc = cls_cxx_read(context_, static_cast<int>(offset), static_cast<int>(length), &list);
  if (rc < 0) return rc;
  const ByteView bytes = view_of(list);
  out = to_bytes(bytes.first(std::min<uint64_t>(bytes.size(), length)));
  return 0;
}

int ObjectHandle::write(uint64_t offset, ByteView bytes) {
  if (bytes.size() > kObjectBytesMax || offset > kOffsetMax) return -EINVAL;
  if (bytes.empty()) return 0;
  ceph::bufferlist list;
  append_to(list, bytes);
  return cls_cxx_write(context_, static_cast<int>(offset), static_cast<int>(bytes.size()), &list);
}

int ObjectHandle::get_attribute(const char* name, Bytes& out) {
  ceph::bufferlist list;
  const int rc = cls_cxx_getxattr(context_, rados_xattr(name).c_str(), &list);
  if (rc < 0) return rc;
  out = to_bytes(view_of(list));
  return 0;
}

int ObjectHandle::set_attribute(const char* name, ByteView bytes) {
  ceph::bufferlist list;
  append_to(list, bytes);
  return cls_cxx_setxattr(context_, rados_xattr(name).c_str(), &list);
}

}  // namespace datacloud
