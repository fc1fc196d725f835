// Key files: what is accepted is exactly what is written.
#include "common/crypto/keys.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace key_file_input {

void run(ByteView input) {
  for (auto kind : {KeyFileKind::data, KeyFileKind::service}) {
    const auto file = parse_key_file(as_text(input), kind, "k");
    if (file)
      require(encode_key_file(file.value()) == as_text(input), "an accepted key file is canonical");
    else
      require(!file.error().text().empty(), "a refusal says why");
  }
}

std::vector<Bytes> seeds() {
  const SecretKey key{ByteView(Bytes(32, 7))};
  return {copy_of(encode_key_file({KeyFileKind::data, "00112233", key})),
          copy_of(encode_key_file({KeyFileKind::service, "00112233", key}))};
}

}  // namespace key_file_input

FuzzTarget key_file_target() { return {"key_file", key_file_input::run, key_file_input::seeds}; }

}  // namespace datacloud::fuzz
