// Requests to the OSD class and its replies: either side may be hostile. The first byte chooses.
#include "common/store/rados/osd_class_abi.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace osd_class_abi_input {

// What a decoder accepts is within bounds, and is written back as it was.
template <class T>
void request(ByteView input, bool (*decode)(ByteView, T&), Bytes (*encode)(const T&)) {
  T value;
  if (!decode(input, value)) return;
  require(fault_of(value) == nullptr, "an accepted request is within its bounds");
  require(encode(value) == to_bytes(input), "a request has one encoding");
}

const Combination& example() {
  static const Combination c{{{0, 5}, {9, 5}}, {{1, 2}, {3, 4}, {5, 6}}};
  return c;
}

void run(ByteView input) {
  if (input.empty()) return;
  const int which = input[0] % 6;
  input = input.subspan(1);
  AuditProof proof;
  CombineReply reply;
  ClassVersion version;
  switch (which) {
    case 0:
      return request<Derivation>(input, decode_xor_request, encode_xor_request);
    case 1:
      return request<AuditChallenge>(input, decode_prove_request, encode_prove_request);
    case 2:
      return request<Combination>(input, decode_combine_request, encode_combine_request);
    case 3:
      if (decode_prove_reply(input, proof)) {
        require(proof.mu.size() == kAuditBlockBytes, "mu is one audit block");
      }
      return;
    case 4:
      if (!decode_combine_reply(input, example(), reply)) return;
      require(reply.outputs.size() == 3 && reply.outputs[2].size() == 5, "outputs as asked for");
      return;
    default:
      if (decode_class_version(input, version)) {
        require(version.software.size() <= 64, "a version's text is short");
      }
  }
}

std::vector<Bytes> seeds() {
  const auto chosen = [](uint8_t which, const Bytes& bytes) {
    Bytes seed(1 + bytes.size(), which);
    std::copy(bytes.begin(), bytes.end(), seed.begin() + 1);
    return seed;
  };
  const Derivation d{"", 7, 8, 5000, {{0, {1, 2}}, {4999, {3}}}, {{16, Bytes(16, 4)}}};
  AuditProof proof;
  proof.mu = Bytes(kAuditBlockBytes, 1);
  proof.object_size = 100;
  return {chosen(0, encode_xor_request(d)),
          chosen(0, encode_xor_request({"", 1, 2, 0, {}, {}})),
          chosen(1, encode_prove_request({{1, 2, 3}, 1024, 460})),
          chosen(2, encode_combine_request(example())),
          chosen(3, encode_prove_reply(proof)),
          chosen(4, encode_combine_reply(std::vector<Bytes>(3, Bytes(5, 9)))),
          chosen(5, encode_class_version({kClassAbi, "1.0"}))};
}

}  // namespace osd_class_abi_input

FuzzTarget osd_class_abi_target() {
  return {"osd_class_abi", osd_class_abi_input::run, osd_class_abi_input::seeds};
}

}  // namespace datacloud::fuzz
