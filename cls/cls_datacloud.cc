// cls_datacloud: what Data Cloud has an OSD compute next to the data
// (common/store/rados/osd_class_abi.h).
//
// Invariants: a method trusts neither its input nor the object; memory it takes is bounded by
// kObjectBytesMax a request; xor changes data, tags and instance in one operation or nothing; no
// exception reaches the OSD.
#include <algorithm>
#include <cerrno>
#include <new>

#include "cls/object_handle.h"
#include "common/store/rados/osd_class_abi.h"

CLS_VER(1, 0)
CLS_NAME(datacloud)

namespace datacloud {
namespace {

constexpr uint64_t kBlocksTogether = 256;  // of a proof: 1 MiB read at a time

// A request of another ABI is told apart from one that is malformed.
int refusal(ByteView request) {
  const bool other = request.size() >= 4 && !(request[0] == kClassAbi && request[1] == 0 &&
                                              request[2] == 0 && request[3] == 0);
  return other ? -EPROTONOSUPPORT : -EINVAL;
}

int get_instance(ObjectHandle& object, uint64_t& instance) {
  Bytes bytes;
  const int rc = object.get_attribute(kInstanceAttribute, bytes);
  if (rc == -ENODATA || (rc == 0 && bytes.size() != 8)) return -EBADMSG;
  if (rc < 0) return rc;
  instance = 0;
  for (size_t i = 0; i < 8; ++i) instance |= uint64_t{bytes[i]} << (8 * i);
  return 0;
}

int set_instance(ObjectHandle& object, uint64_t instance) {
  std::array<uint8_t, 8> bytes;
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(instance >> (8 * i));
  return object.set_attribute(kInstanceAttribute, bytes);
}

int get_tags(ObjectHandle& object, Bytes& tags) {
  const int rc = object.get_attribute(kTagsAttribute, tags);
  return rc == -ENODATA ? 0 : rc;
}

void xor_into(Bytes& to, size_t at, ByteView bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) to[at + i] ^= bytes[i];
}

int xor_data(ObjectHandle& object, const Derivation& request, uint64_t size) {
  // Without overlaps: what this operation has written it cannot read.
  auto ranges = coalesce(request.data);
  const uint64_t end = ranges.empty() ? 0 : ranges.back().offset + ranges.back().bytes.size();
  if (request.size > size && end < request.size) ranges.push_back({request.size - 1, {0}});
  for (auto& range : ranges) {
    Bytes held;
    const int rc = object.read(range.offset, range.bytes.size(), held);
    if (rc < 0) return rc;
    xor_into(range.bytes, 0, held);
    if (const int written = object.write(range.offset, range.bytes); written < 0) return written;
  }
  return 0;
}

int xor_method(ObjectHandle object, ByteView input, Bytes&) {
  Derivation request;
  if (!decode_xor_request(input, request)) return refusal(input);
  uint64_t size = 0, instance = 0;
  if (const int rc = object.size(size); rc < 0) return rc;
  if (const int rc = get_instance(object, instance); rc < 0) return rc;
  if (instance == request.instance) return 0;  // done by an earlier sending
  if (instance != request.source_instance) return -ECANCELED;
  Bytes tags;
  if (const int rc = get_tags(object, tags); rc < 0) return rc;
  const uint64_t tags_bytes = kFieldBytes * audit_blocks_of(request.size);
  if (size > request.size || tags.size() > tags_bytes) return -EBADMSG;
  tags.resize(tags_bytes);
  for (const auto& range : request.tags) xor_into(tags, range.offset, range.bytes);
  if (const int rc = xor_data(object, request, size); rc < 0) return rc;
  if (const int rc = object.set_attribute(kTagsAttribute, tags); rc < 0) return rc;
  return set_instance(object, request.instance);
}

int prove_method(ObjectHandle object, ByteView input, Bytes& output) {
  AuditChallenge challenge;
  if (!decode_prove_request(input, challenge)) return refusal(input);
  AuditProof proof;
  Bytes tags;
  if (const int rc = object.size(proof.object_size); rc < 0) return rc;
  if (const int rc = get_instance(object, proof.instance); rc < 0) return rc;
  if (const int rc = get_tags(object, tags); rc < 0) return rc;
  const uint64_t blocks = audit_blocks_of(proof.object_size);
  if (tags.size() / kFieldBytes != blocks) return -EBADMSG;
  AuditResponse response(challenge);
  for (const auto& run : challenged_blocks(challenge, blocks)) {
    for (uint64_t done = 0; done < run.count;) {
      const BlockRun part{run.first + done, std::min(run.count - done, kBlocksTogether)};
      const uint64_t offset = part.first * kAuditBlockBytes;
      const uint64_t length = std::min(part.count * kAuditBlockBytes, proof.object_size - offset);
      Bytes bytes;
      if (const int rc = object.read(offset, length, bytes); rc < 0) return rc;
      if (bytes.size() != length) return -EBADMSG;
      response.add(part, bytes,
                   ByteView(tags).subspan(part.first * kFieldBytes, part.count * kFieldBytes));
      done += part.count;
    }
  }
  proof.mu = response.mu();
  proof.tag = response.tag();
  output = encode_prove_reply(proof);
  return 0;
}

int combine_method(ObjectHandle object, ByteView input, Bytes& output) {
  Combination request;
  if (!decode_combine_request(input, request)) return refusal(input);
  uint64_t size = 0;
  if (const int rc = object.size(size); rc < 0) return rc;
  const uint64_t length = request.ranges[0].length;
  std::vector<Bytes> ranges(request.ranges.size());
  std::vector<ByteView> sources;
  std::vector<uint8_t> coefficients;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const uint64_t offset = std::min(request.ranges[i].offset, size);
    const int rc = object.read(offset, std::min(length, size - offset), ranges[i]);
    if (rc < 0) return rc;
    ranges[i].resize(length);
    sources.push_back(ranges[i]);
  }
  std::vector<Bytes> outputs;
  for (const auto& row : request.coefficients) {
    coefficients.insert(coefficients.end(), row.begin(), row.end());
    outputs.emplace_back(length);
  }
  gf256_combine(coefficients, sources, {outputs.begin(), outputs.end()});
  output = encode_combine_reply(outputs);
  return 0;
}

int version_method(ObjectHandle, ByteView, Bytes& output) {
  output = encode_class_version({kClassAbi, DATACLOUD_VERSION});
  return 0;
}

// Ceph's signature around a method of ours.
template <int (*method)(ObjectHandle, ByteView, Bytes&)>
int guarded(cls_method_context_t context, ceph::bufferlist* in, ceph::bufferlist* out) {
  try {
    Bytes output;
    const int rc = method(ObjectHandle(context), view_of(*in), output);
    if (rc == 0) append_to(*out, output);
    return rc;
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  } catch (...) {
    return -EIO;
  }
}

void register_methods() {
  cls_handle_t handle;
  cls_method_handle_t method;
  cls_register(kClassName, &handle);
  cls_register_cxx_method(handle, kClassVersionMethod, CLS_METHOD_RD, guarded<version_method>,
                          &method);
  cls_register_cxx_method(handle, kClassXorMethod, CLS_METHOD_RD | CLS_METHOD_WR,
                          guarded<xor_method>, &method);
  cls_register_cxx_method(handle, kClassProveMethod, CLS_METHOD_RD, guarded<prove_method>, &method);
  cls_register_cxx_method(handle, kClassCombineMethod, CLS_METHOD_RD, guarded<combine_method>,
                          &method);
}

}  // namespace
}  // namespace datacloud

CLS_INIT(datacloud) { datacloud::register_methods(); }
