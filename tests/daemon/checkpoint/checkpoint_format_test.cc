// Pieces as docs/journal.md says, byte for byte.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "common/base/hex.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/checkpoint/checkpoint_piece.h"
#include "daemon/journal/log_entry.h"

namespace datacloud {
namespace {

std::string document() {
  std::ifstream file(DATACLOUD_SOURCE_DIR "/docs/journal.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The key, journal and metadata key of the document's worked entry.
TEST(CheckpointFormat, IsThatOfTheDocument) {
  Bytes raw(32);
  ASSERT_TRUE(from_hex("5f45fd75a8703cd0c0643f372b47e5c537a69b36b3126ab849e050d7c6bab03d", raw));
  const SecretKey metadata_key{ByteView(raw)};
  journal::JournalId journal{};
  ASSERT_TRUE(from_hex("00112233445566778899aabbccddeeff", journal));
  constexpr uint64_t kNumber = 0x0123456789abcdef;
  Bytes plain;
  append_record(plain, "Ik", "value");
  PieceSealer sealer(metadata_key, journal, kNumber);
  const Bytes sealed = sealer.seal(2, plain).value();
  const std::string text = document();
  for (const std::string& worked :
       {to_hex(derive_checkpoint_key(metadata_key, kNumber).view()), to_hex(plain),
        to_hex(ByteView(sealed).first(32)), to_hex(ByteView(sealed).subspan(32, 8)),
        to_hex(ByteView(sealed).subspan(kPieceHeaderBytes)), column_name(kNumber, 2, 4)}) {
    EXPECT_NE(text.find(worked), std::string::npos) << worked;
  }
  EXPECT_TRUE(sealer.open(2, sealed).value() == plain);
}

}  // namespace
}  // namespace datacloud
