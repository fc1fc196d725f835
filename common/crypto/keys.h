// Key files and key derivation.
//
// Chain: data key file -> realm key -> inode key (HKDF-SHA256). The data key file is read by
// mounts only; the service key file by the daemon (metadata, journal, audit, object names).
// Both are small text files of mode 0600, checksummed; their format is in docs/format.md.
// Keys are wiped from memory when their holders are destroyed.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/ids.h"

namespace datacloud {

// 32 secret bytes; wiped on destruction; never printed.
class SecretKey {
 public:
  SecretKey() = default;
  explicit SecretKey(ByteView bytes32);
  SecretKey(const SecretKey&) = default;
  SecretKey& operator=(const SecretKey&) = default;
  ~SecretKey();
  static SecretKey random();
  ByteView view() const { return bytes_; }

 private:
  std::array<uint8_t, 32> bytes_{};
};

enum class KeyFileKind { data, service };

struct KeyFile {
  KeyFileKind kind = KeyFileKind::data;
  std::string cloud_uuid;
  SecretKey key;
};

// Creates the file with mode 0600, fsynced with its directory. exists when there is one.
result<void> write_key_file(const std::filesystem::path&, const KeyFile&);
// invalid names the file and the remedy: absent, readable by group or others, damaged, wrong kind.
result<KeyFile> read_key_file(const std::filesystem::path&, KeyFileKind expected);

// The file's text, and back. `name` is what error texts call the file.
std::string encode_key_file(const KeyFile&);
result<KeyFile> parse_key_file(std::string_view text, KeyFileKind expected,
                               const std::string& name);

// HKDF-SHA256 (RFC 5869) to `length` bytes, salt empty.
Bytes hkdf_sha256(ByteView key, std::string_view info, size_t length);

// Key of a realm (0: the root realm) and of one inode at one key generation, 32 bytes each.
SecretKey derive_realm_key(const SecretKey& data_key, const std::string& cloud_uuid,
                           uint32_t realm);
SecretKey derive_inode_key(const SecretKey& realm_key, InodeId, uint32_t generation);
// 16-byte key of ShardNamer.
Bytes derive_name_key(const SecretKey& service_key, const std::string& cloud_uuid);

}  // namespace datacloud
