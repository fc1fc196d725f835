// Watermark keys: the file that holds one, and the keys of a picture derived from it.
//
// The file is three lines of text, of mode 0600:
//   datacloud-watermark-key 1
//   key KEY              32 bytes, hexadecimal
//   check CHECK          the first 8 bytes of SHA-256 of the lines above, hexadecimal
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/crypto/keys.h"

namespace datacloud::watermark {

// Makes a random key in a new file of mode 0600, durable on return; exists when there is one.
result<SecretKey> create_watermark_key(const std::filesystem::path&);
// invalid names the file and the remedy: absent, readable by group or others, damaged.
result<SecretKey> read_watermark_key(const std::filesystem::path&);

std::string encode_watermark_key(const SecretKey&);
result<SecretKey> parse_watermark_key(std::string_view text, const std::string& name);

// HKDF-SHA256 of the watermark key over what the record says of this picture (record bytes that
// MarkRecord::bound_bytes() returns): each picture, mark and strength has keys of its own.
struct PictureKeys {
  SecretKey stream, mac, seal;
};
PictureKeys derive_picture_keys(const SecretKey& watermark_key, ByteView bound);

}  // namespace datacloud::watermark
