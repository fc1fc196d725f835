// What is said between librados clients and our OSD class, libcls_datacloud.so (cls/).
//
// Class "datacloud", methods:
//   version   read   in: nothing                    out: ClassVersion
//   xor       write  in: encode_xor_request         out: nothing
//   prove     read   in: encode_prove_request       out: encode_prove_reply
//   combine   read   in: encode_combine_request     out: encode_combine_reply
//
// All structures are fixed, little-endian, and begin with the u32 kClassAbi; docs/format-sites.md
// shows them. Decoders take any bytes, check all bounds before they allocate, and return false for
// what is not exactly one well-formed structure within the bounds of object_requests.h.
//
// xor applies to the object it is called on (made by an exclusive create with copy_from of the
// source in an EARLIER operation: a class method reads the state before its own operation). It does
// its work exactly once: when the instance xattr is `source_instance`, data and tags are XORed and
// the xattr becomes `instance` in one step; when it is `instance` already, nothing is done and it
// succeeds. So xor may be sent again, and an object is derived when its instance xattr says so.
//
// Methods fail with (negative errno, as librados returns it):
//   -EINVAL           not a well-formed request
//   -EPROTONOSUPPORT  another kClassAbi
//   -ENOENT           no such object
//   -ECANCELED        xor: the instance is neither the source's nor the new one
//   -EBADMSG          instance or tags are absent or do not fit the object; xor: it is too long
// Where the OSD lacks the class or cannot let it read (Ceph's EC pools) Ceph answers -EOPNOTSUPP,
// and -EPERM where osd_class_load_list or the user's capabilities exclude it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/tags/object_requests.h"

namespace datacloud {

inline constexpr const char* kClassName = "datacloud";
inline constexpr const char* kClassVersionMethod = "version";
inline constexpr const char* kClassXorMethod = "xor";
inline constexpr const char* kClassProveMethod = "prove";
inline constexpr const char* kClassCombineMethod = "combine";

inline constexpr uint32_t kClassAbi = 1;

// The xattr that holds an attribute of object_store.h at a RADOS site. Every back end and the class
// use this name and no other: attribute "i" is xattr "dc.i", "t" is "dc.t", "" is "dc.".
inline constexpr const char* kRadosXattrPrefix = "dc.";
inline std::string rados_xattr(const std::string& attribute) {
  return kRadosXattrPrefix + attribute;
}

struct ClassVersion {
  uint32_t abi = kClassAbi;
  std::string software;  // for `status`: at most 64 bytes
};

Bytes encode_class_version(const ClassVersion&);
bool decode_class_version(ByteView, ClassVersion&);  // of any abi

// Derivation::source is not sent: it is what the object was copied from.
Bytes encode_xor_request(const Derivation&);
bool decode_xor_request(ByteView, Derivation&);

Bytes encode_prove_request(const AuditChallenge&);
bool decode_prove_request(ByteView, AuditChallenge&);
// Of an object of less than one audit block only the elements of mu that can differ from zero are
// sent; mu comes back padded. `at_site` and `bytes_transferred` are set by the decoder.
Bytes encode_prove_reply(const AuditProof&);
bool decode_prove_reply(ByteView, AuditProof&);

Bytes encode_combine_request(const Combination&);
bool decode_combine_request(ByteView, Combination&);
// The decoder wants exactly the outputs that the request asks for.
Bytes encode_combine_reply(const std::vector<Bytes>& outputs);
bool decode_combine_reply(ByteView, const Combination& request, CombineReply&);

}  // namespace datacloud
