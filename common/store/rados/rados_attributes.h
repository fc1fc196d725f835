// Attributes of an object as xattrs of a RADOS object: attribute NAME is xattr "dc.NAME" (RADOS
// keeps a record of its own under the empty name). Other xattrs are not ours.
#pragma once

#include <map>
#include <rados/librados.hpp>
#include <string>

#include "common/store/object_store.h"
#include "common/store/rados/osd_class_abi.h"

namespace datacloud {

// invalid: more than kAttributesBytesMax in all, or a name too long for RADOS (240 bytes).
result<void> check_rados_attributes(const Attributes&);
// corrupt: more than kAttributesBytesMax.
result<Attributes> decode_rados_attributes(const std::map<std::string, librados::bufferlist>&);

Bytes bytes_of(const librados::bufferlist&);
librados::bufferlist bufferlist_of(ByteView);

}  // namespace datacloud
