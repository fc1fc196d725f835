// Names found in listings, code profiles and units: short texts from sites and people.
#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/config/config.h"
#include "common/store/object_store.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace names_input {

void run(ByteView input) {
  static const ShardNamer namer(Bytes(16, 3));
  const std::string text(as_text(input));
  if (const auto shard = namer.parse(text)) {
    require(shard->stripe <= kStripeIdMax, "stripe ids have 56 bits");
    require(namer.object_name(*shard) == text, "a shard has one name");
    require(valid_object_name(text), "a shard's name is an object name");
  }
  if (const auto code = make_erasure_code(text)) {
    require(code.value()->name() == text, "a code has one name");
    require(code.value()->k() >= 1 && code.value()->n() <= 32, "codes are within their bounds");
  }
  (void)valid_object_name(text);
  (void)parse_bytes(text);
  (void)parse_milliseconds(text);
}

std::vector<Bytes> seeds() {
  return {copy_of("00112233445566778899aabbccddeeff"), copy_of("rs-3-2"), copy_of("rs-10-4"),
          copy_of("64MiB"), copy_of("500ms")};
}

}  // namespace names_input

FuzzTarget names_target() { return {"names", names_input::run, names_input::seeds}; }

}  // namespace datacloud::fuzz
