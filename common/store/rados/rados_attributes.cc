// Names and bounds of attributes at RADOS sites (rados_attributes.h).
#include "common/store/rados/rados_attributes.h"

namespace datacloud {
namespace {

constexpr size_t kNameBytesMax = 240;  // RADOS: below 256
constexpr std::string_view kPrefix = kRadosXattrPrefix;

}  // namespace

result<void> check_rados_attributes(const Attributes& attributes) {
  size_t total = 0;
  for (const auto& [name, value] : attributes) {
    if (name.size() > kNameBytesMax) {
      return failure(Errc::invalid, "an attribute's name is longer than 240 bytes");
    }
    total += name.size() + value.size();
  }
  if (total > kAttributesBytesMax) return failure(Errc::invalid, "attributes exceed 64 KiB");
  return success();
}

result<Attributes> decode_rados_attributes(
    const std::map<std::string, librados::bufferlist>& xattrs) {
  Attributes attributes;
  size_t total = 0;
  for (const auto& [name, value] : xattrs) {
    if (!name.starts_with(kPrefix)) continue;
    total += name.size() - kPrefix.size() + value.length();
    if (total > kAttributesBytesMax) return failure(Errc::corrupt, "its attributes exceed 64 KiB");
    attributes.emplace(name.substr(kPrefix.size()), value.to_str());
  }
  return attributes;
}

Bytes bytes_of(const librados::bufferlist& list) {
  Bytes bytes;
  bytes.reserve(list.length());
  for (const auto& part : list.buffers()) {
    const auto* data = reinterpret_cast<const uint8_t*>(part.c_str());
    bytes.insert(bytes.end(), data, data + part.length());
  }
  return bytes;
}

librados::bufferlist bufferlist_of(ByteView bytes) {
  librados::bufferlist list;
  list.append(reinterpret_cast<const char*>(bytes.data()), static_cast<unsigned>(bytes.size()));
  return list;
}

}  // namespace datacloud
