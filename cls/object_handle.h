// The object a class method works on, with Ceph's calls made safe to use: 64-bit offsets checked,
// bytes instead of buffer lists, errors as negative errno.
#pragma once

#include <rados/objclass.h>

#include <cstdint>

#include "common/base/bytes.h"

namespace datacloud {

// All bytes of a buffer list, made contiguous in place.
ByteView view_of(ceph::bufferlist&);
void append_to(ceph::bufferlist&, ByteView);

// Reads show the state before the operation, whatever has been written in it.
class ObjectHandle {
 public:
  explicit ObjectHandle(cls_method_context_t context) : context_(context) {}

  // Each returns 0 or a negative errno.
  int size(uint64_t& bytes);
  // Shorter past the end. At most 64 MiB, from an offset below 2 GiB.
  int read(uint64_t offset, uint64_t length, Bytes& out);
  int write(uint64_t offset, ByteView);
  // -ENODATA when there is none.
  int get_attribute(const char* name, Bytes& out);
  int set_attribute(const char* name, ByteView);

 private:
  const cls_method_context_t context_;
};

}  // namespace datacloud
