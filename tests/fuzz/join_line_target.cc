// Lines by which machines join, as somebody pastes them, and the bundles they open.
#include "common/tls/join_line.h"

#include "common/net/address.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace join_line_input {

void run(ByteView input) {
  const auto line = parse_join_line(as_text(input));
  if (line) {
    require(valid_node_name(line.value().name), "a line names a node");
    require(!line.value().addresses.empty() && line.value().addresses.size() <= kJoinAddressesMax,
            "a line has addresses");
    for (const auto& address : line.value().addresses)
      require(parse_tls_address(address).has_value(), "its addresses are addresses");
    require(parse_join_line(encode_join_line(line.value())).has_value(), "it can be written again");
  }
  const SecretKey secret(ByteView(Bytes(32, 1)));
  require(!open_bundle(secret, "n", input), "nobody seals without the secret");
}

std::vector<Bytes> seeds() {
  JoinLine line;
  line.authority_hash = Bytes(32, 2);
  line.secret = SecretKey(ByteView(Bytes(32, 3)));
  line.expires_s = 1'800'000'000;
  line.name = "gpu07";
  line.addresses = {"tls://h:7411", "tls://[::1]:7411"};
  return {copy_of(encode_join_line(line)), copy_of("datacloud-join-1.")};
}

}  // namespace join_line_input

FuzzTarget join_line_target() {
  return {"join_line", join_line_input::run, join_line_input::seeds};
}

}  // namespace datacloud::fuzz
