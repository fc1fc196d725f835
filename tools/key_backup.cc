// Printing and reading key backups (key_backup.h).
#include "tools/key_backup.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>

#include "common/base/hex.h"

namespace datacloud {
namespace {

constexpr std::string_view kLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr uint8_t kFormat = 1;
constexpr size_t kUuidAt = 2, kKeyAt = 18, kCheckAt = 50;
constexpr size_t kLineBytes = 10, kLines = 6, kLineLetters = 16, kCheckLetters = 4;
constexpr size_t kTextBytesMax = 64 << 10;
constexpr size_t kKeysMax = 16;

using PaperBytes = std::array<uint8_t, kLines * kLineBytes>;
using Digest = std::array<uint8_t, 32>;

Digest sha256(ByteView bytes) {
  Digest digest;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    std::abort();
  return digest;
}

// Wipes a payload on every way out.
class Wiped {
 public:
  ~Wiped() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
  PaperBytes bytes{};
};

// `letters` letters of 5 bits, most significant first.
std::string to_letters(ByteView bytes, size_t letters) {
  std::string text;
  for (size_t i = 0; i < letters; i++) {
    unsigned value = 0;
    for (size_t bit = 5 * i; bit < 5 * i + 5; bit++) {
      value = value << 1 | (bytes[bit / 8] >> (7 - bit % 8) & 1u);
    }
    text += kLetters[value];
  }
  return text;
}

void from_letters(std::string_view text, MutableByteView out) {
  std::fill(out.begin(), out.end(), uint8_t{0});
  for (size_t bit = 0; bit < 8 * out.size(); bit++) {
    const size_t value = kLetters.find(text[bit / 5]);
    out[bit / 8] |= static_cast<uint8_t>((value >> (4 - bit % 5) & 1u) << (7 - bit % 8));
  }
}

std::string line_check(size_t number, ByteView line) {
  std::array<uint8_t, 1 + kLineBytes> covered;
  covered[0] = static_cast<uint8_t>(number);
  std::copy(line.begin(), line.end(), covered.begin() + 1);
  const Digest digest = sha256(covered);
  OPENSSL_cleanse(covered.data(), covered.size());
  return to_letters(digest, kCheckLetters);
}

bool uuid_bytes(const std::string& uuid, MutableByteView out) {
  std::string digits;
  for (size_t i = 0; i < uuid.size(); i++) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash != (uuid[i] == '-')) return false;
    if (!dash) digits += uuid[i];
  }
  return from_hex(digits, out);
}

std::string uuid_text(ByteView bytes) {
  std::string text = to_hex(bytes);
  for (const size_t at : {8, 13, 18, 23}) text.insert(at, 1, '-');
  return text;
}

// What was typed as our letters: dashes and spaces dropped, look-alikes read as what they must be.
// False when a character is none.
bool read_letters(std::string_view typed, std::string& letters) {
  for (const char c : typed) {
    if (c == '-' || c == ' ' || c == '\t' || c == '\r') continue;
    char letter = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    if (letter == 'O') letter = '0';
    if (letter == 'I' || letter == 'L') letter = '1';
    if (kLetters.find(letter) == std::string_view::npos) return false;
    letters += letter;
  }
  return true;
}

// The line's number and what follows "N:"; 0 when it is not such a line.
size_t split_line(std::string_view& line) {
  while (!line.empty() && (line[0] == ' ' || line[0] == '\t')) line.remove_prefix(1);
  if (line.size() < 2 || line[0] < '1' || line[0] > '9' || line[1] != ':') return 0;
  const size_t number = static_cast<size_t>(line[0] - '0');
  line.remove_prefix(2);
  return number;
}

// Empty: the line is right and its bytes are in `out`.
std::string read_line(size_t number, std::string_view rest, MutableByteView out) {
  std::string letters;
  if (const size_t word = rest.find("check"); word != std::string_view::npos) {
    std::string check;
    if (!read_letters(rest.substr(0, word), letters) || !read_letters(rest.substr(word + 5), check))
      return "it has a character that is never used";
    letters += check;
  } else if (!read_letters(rest, letters)) {
    return "it has a character that is never used";
  }
  std::string problem;
  if (letters.size() != kLineLetters + kCheckLetters) {
    problem = fmt::format("it has {} characters, instead of {}, \"check\" not counted",
                          letters.size(), kLineLetters + kCheckLetters);
  } else {
    from_letters(letters, out);
    if (line_check(number, out) != std::string_view(letters).substr(kLineLetters))
      problem = "its check does not match: compare it with the paper, character by character";
  }
  OPENSSL_cleanse(letters.data(), letters.size());
  return problem;
}

result<KeyFile> decode(const PaperBytes& payload, const std::string& which) {
  const Digest digest = sha256({payload.data(), kCheckAt});
  if (!std::equal(payload.begin() + kCheckAt, payload.end(), digest.begin()))
    return failure(Errc::invalid, which + ": its lines belong to different backups");
  if (payload[0] != kFormat || payload[1] > 1)
    return failure(Errc::unsupported,
                   which + " has a format this version does not know; use a newer one");
  KeyFile file;
  file.kind = payload[1] == 0 ? KeyFileKind::data : KeyFileKind::service;
  file.cloud_uuid = uuid_text({payload.data() + kUuidAt, 16});
  file.key = SecretKey(ByteView(payload.data() + kKeyAt, 32));
  return file;
}

}  // namespace

result<std::string> print_key_backup(const KeyFile& key, const std::string& cloud_name,
                                     const std::string& file) {
  Wiped payload;
  auto& bytes = payload.bytes;
  bytes[0] = kFormat;
  bytes[1] = key.kind == KeyFileKind::data ? 0 : 1;
  if (!uuid_bytes(key.cloud_uuid, {bytes.data() + kUuidAt, 16}))
    return failure(Errc::invalid, file + " names the cloud \"" + key.cloud_uuid.substr(0, 64) +
                                      "\", which is not a UUID");
  std::copy(key.key.view().begin(), key.key.view().end(), bytes.begin() + kKeyAt);
  const Digest digest = sha256({bytes.data(), kCheckAt});
  std::copy_n(digest.begin(), bytes.size() - kCheckAt, bytes.begin() + kCheckAt);
  std::string text =
      fmt::format("{} key of the cloud {}\ncloud        {}\nfile         {}\nfingerprint  {}\n\n",
                  key.kind == KeyFileKind::data ? "DATA" : "SERVICE", cloud_name, key.cloud_uuid,
                  file, key_fingerprint(key.key));
  for (size_t i = 0; i < kLines; i++) {
    const ByteView line(bytes.data() + i * kLineBytes, kLineBytes);
    std::string letters = to_letters(line, kLineLetters);
    text += fmt::format("  {}:", i + 1);
    for (size_t at = 0; at < kLineLetters; at += 4)
      text.append(at == 0 ? " " : "-").append(letters, at, 4);
    text += fmt::format("  check {}\n", line_check(i + 1, line));
    OPENSSL_cleanse(letters.data(), letters.size());
  }
  return text;
}

result<std::vector<KeyFile>> read_key_backup(std::string_view text) {
  if (text.size() > kTextBytesMax)
    return failure(Errc::invalid, "a backup is one page of text, and this is more than 64 KiB");
  std::vector<KeyFile> keys;
  std::vector<std::string> problems;
  Wiped payload;
  size_t expected = 1, bad_before = 0;
  for (size_t row = 1; !text.empty(); row++) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t number = split_line(line);
    if (number == 0) continue;
    const std::string where =
        fmt::format("line {}: of key {} (row {} of the text)", number, keys.size() + 1, row);
    if (number != expected)
      return failure(Errc::invalid,
                     fmt::format("{} is where line {}: belongs; type all six lines of a key in "
                                 "their order",
                                 where, expected));
    const auto problem =
        read_line(number, line, {payload.bytes.data() + (number - 1) * kLineBytes, kLineBytes});
    if (!problem.empty()) problems.push_back(where + ": " + problem);
    expected = number % kLines + 1;
    if (number < kLines) continue;
    if (keys.size() == kKeysMax) return failure(Errc::invalid, "more than 16 keys in one text");
    if (problems.size() == bad_before) {
      TRY(auto key, decode(payload.bytes, fmt::format("key {}", keys.size() + 1)));
      keys.push_back(std::move(key));
    } else {
      keys.emplace_back();
    }
    bad_before = problems.size();
  }
  if (!problems.empty())
    return failure(Errc::invalid,
                   fmt::format("the backup cannot be read:\n  {}", fmt::join(problems, "\n  ")));
  if (expected != 1)
    return failure(Errc::invalid, fmt::format("the backup ends before line {}: of key {}", expected,
                                              keys.size() + 1));
  if (keys.empty())
    return failure(Errc::invalid,
                   "no line of a key backup is in the text; they begin with 1: to 6:");
  return keys;
}

std::string key_fingerprint(const SecretKey& key) {
  return to_hex(hkdf_sha256(key.view(), "datacloud fingerprint", 8));
}

}  // namespace datacloud
