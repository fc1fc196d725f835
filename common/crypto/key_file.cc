// Key files: five lines of text, written once, read strictly. Format: docs/format.md.
//
// A key that is lost or mistyped loses the cloud, so a damaged file is always told from a wrong
// one, and a file is never overwritten.
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "common/base/hex.h"
#include "common/crypto/keys.h"
#include "common/crypto/secret_file.h"

namespace datacloud {
namespace {

constexpr size_t kFileBytesMax = 4096;
constexpr size_t kCheckBytes = 8;
constexpr std::string_view kFirstLine = "datacloud-key 1";

const char* kind_name(KeyFileKind kind) { return kind == KeyFileKind::data ? "data" : "service"; }

std::string checksum(std::string_view text) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  if (EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha256(), nullptr) != 1)
    std::abort();
  return to_hex({digest, kCheckBytes});
}

// The rest of the next line after "WORD ", or nullopt-like failure.
bool take_line(std::string_view& text, std::string_view word, std::string_view& value) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return false;
  std::string_view line = text.substr(0, end);
  if (!line.starts_with(word) || line.size() <= word.size() || line[word.size()] != ' ')
    return false;
  value = line.substr(word.size() + 1);
  text.remove_prefix(end + 1);
  return true;
}

Error damaged(const std::string& name, const std::string& what) {
  return Error(Errc::invalid, "key file " + name + " is damaged (" + what +
                                  "); restore it from your backup, nothing else can replace it");
}

}  // namespace

std::string encode_key_file(const KeyFile& file) {
  std::string hex = to_hex(file.key.view());
  std::string text = std::string(kFirstLine) + "\nkind " + kind_name(file.kind) + "\ncloud " +
                     file.cloud_uuid + "\nkey " + hex + "\n";
  OPENSSL_cleanse(hex.data(), hex.size());
  text += "check " + checksum(text) + "\n";
  return text;
}

result<KeyFile> parse_key_file(std::string_view text, KeyFileKind expected,
                               const std::string& name) {
  std::string_view rest = text, kind, cloud, key, check;
  if (!text.starts_with("datacloud-key "))
    return failure(Errc::invalid, "key file " + name +
                                      " is not a Data Cloud key file; check [keys] in the "
                                      "configuration");
  if (!text.starts_with(std::string(kFirstLine) + "\n"))
    return failure(Errc::unsupported, "key file " + name +
                                          " has a format this version does not know; use the "
                                          "version of Data Cloud that wrote it, or a newer one");
  rest.remove_prefix(kFirstLine.size() + 1);
  if (!take_line(rest, "kind", kind) || !take_line(rest, "cloud", cloud) ||
      !take_line(rest, "key", key))
    return failure(damaged(name, "a line is missing"));
  const size_t checked = text.size() - rest.size();
  if (!take_line(rest, "check", check) || !rest.empty())
    return failure(damaged(name, "it does not end with its check line"));
  if (check != checksum(text.substr(0, checked)))
    return failure(damaged(name, "its check sum does not match"));
  if (kind != kind_name(expected))
    return failure(Errc::invalid, "key file " + name + " holds a " +
                                      std::string(kind.substr(0, 16)) + " key where the " +
                                      kind_name(expected) +
                                      " key belongs; check [keys] in the configuration");
  KeyFile file;
  uint8_t bytes[32];
  if (cloud.empty() || !from_hex(key, bytes)) return failure(damaged(name, "a value is malformed"));
  file.kind = expected;
  file.cloud_uuid = std::string(cloud);
  file.key = SecretKey(ByteView(bytes));
  OPENSSL_cleanse(bytes, sizeof bytes);
  return file;
}

result<void> write_key_file(const std::filesystem::path& path, const KeyFile& file) {
  std::string text = encode_key_file(file);
  auto written = write_secret_file(path, text, "key file");
  OPENSSL_cleanse(text.data(), text.size());
  if (!written && written.error().is(Errc::exists))
    return failure(Errc::exists, "key file " + path.string() +
                                     " exists already and is never overwritten; move it "
                                     "away if it belongs to no cloud you still need");
  return written;
}

result<KeyFile> read_key_file(const std::filesystem::path& path, KeyFileKind expected) {
  const std::string name = path.string();
  TRY(auto text,
      read_secret_file(path, kFileBytesMax, std::string("the ") + kind_name(expected) + " key file",
                       "restore it from its backup (\"datacloud key restore\"), or "
                       "make a new cloud with \"datacloud create\""));
  auto file = parse_key_file(text, expected, name);
  OPENSSL_cleanse(text.data(), text.size());
  return file;
}

}  // namespace datacloud
