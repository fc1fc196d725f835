// Lines by which nodes join, and what is sealed for them (join_line.h).
#include "common/tls/join_line.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "common/crypto/block_cipher.h"
#include "common/net/address.h"

namespace datacloud {
namespace {

constexpr std::string_view kPrefix = "datacloud-join-";
constexpr std::string_view kVersion = "1.";
constexpr size_t kHashBytes = 32, kSecretBytes = 32, kCheckBytes = 4;
constexpr std::string_view kLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::array<uint8_t, 32> sha256(ByteView bytes) {
  std::array<uint8_t, 32> digest;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    std::abort();
  return digest;
}

std::string to_letters(ByteView bytes) {
  std::string text;
  text.reserve(bytes.size() * 4 / 3 + 3);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t here = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t j = 0; j < 3; j++) word = word << 8 | (j < here ? bytes[i + j] : 0u);
    for (size_t j = 0; j <= here; j++) text += kLetters[word >> (18 - 6 * j) & 63];
  }
  return text;
}

// Every value has one spelling: bits left over must be zero.
bool from_letters(std::string_view text, Bytes& out) {
  uint32_t word = 0;
  int bits = 0;
  out.reserve(text.size() * 3 / 4);
  for (const char c : text) {
    const size_t value = kLetters.find(c);
    if (value == std::string_view::npos) return false;
    word = (word << 6 | static_cast<uint32_t>(value)) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out.push_back(static_cast<uint8_t>(word >> bits));
    }
  }
  return bits < 6 && (word & ((1u << bits) - 1)) == 0;
}

void put_text(Bytes& out, const std::string& text) {
  out.push_back(static_cast<uint8_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

// Takes from the front; false at the end.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}
  bool take(size_t size, ByteView& out) {
    if (rest_.size() < size) return false;
    out = rest_.first(size);
    rest_ = rest_.subspan(size);
    return true;
  }
  bool take_text(std::string& out) {
    ByteView length, bytes;
    if (!take(1, length) || !take(length[0], bytes)) return false;
    out = std::string(as_text(bytes));
    return true;
  }
  bool empty() const { return rest_.empty(); }

 private:
  ByteView rest_;
};

// Wiped on every way out.
class Wiped {
 public:
  ~Wiped() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
  Bytes bytes;
};

SecretKey derived(const SecretKey& secret, std::string_view what) {
  Wiped key;
  key.bytes = hkdf_sha256(secret.view(), what, 32);
  return SecretKey(ByteView(key.bytes));
}

BlockCipher bundle_cipher() {
  static const std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> aes(
      EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr), EVP_CIPHER_free);
  if (!aes) std::abort();
  return BlockCipher(aes.get());
}

bool read_fields(ByteView bytes, JoinLine& line) {
  Reader reader(bytes);
  ByteView hash, secret, expires, count;
  if (!reader.take(kHashBytes, hash) || !reader.take(kSecretBytes, secret) ||
      !reader.take(8, expires) || !reader.take_text(line.name) || !reader.take(1, count)) {
    return false;
  }
  line.authority_hash = to_bytes(hash);
  line.secret = SecretKey(secret);
  uint64_t seconds = 0;
  for (const uint8_t byte : expires) seconds = seconds << 8 | byte;
  if (seconds > 1ull << 40 || !valid_node_name(line.name)) return false;
  line.expires_s = static_cast<int64_t>(seconds);
  if (count[0] == 0 || count[0] > kJoinAddressesMax) return false;
  for (int i = 0; i < count[0]; i++) {
    std::string address;
    if (!reader.take_text(address) || !parse_tls_address(address)) return false;
    line.addresses.push_back(std::move(address));
  }
  return reader.empty();
}

}  // namespace

std::string encode_join_line(const JoinLine& line) {
  Wiped out;
  Bytes& bytes = out.bytes;
  bytes.reserve(kJoinLineBytesMax);  // never moved: moving would leave a copy of the secret
  bytes.insert(bytes.end(), line.authority_hash.begin(), line.authority_hash.end());
  bytes.insert(bytes.end(), line.secret.view().begin(), line.secret.view().end());
  for (int shift = 56; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(line.expires_s) >> shift));
  put_text(bytes, line.name);
  bytes.push_back(static_cast<uint8_t>(line.addresses.size()));
  for (const auto& address : line.addresses) put_text(bytes, address);
  const auto digest = sha256(bytes);
  bytes.insert(bytes.end(), digest.begin(), digest.begin() + kCheckBytes);
  return std::string(kPrefix) + std::string(kVersion) + to_letters(bytes);
}

result<JoinLine> parse_join_line(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\r'))
    text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  if (text.size() > kJoinLineBytesMax || !text.starts_with(kPrefix)) {
    return failure(Errc::invalid, "this is no line of `datacloud node add`, which begins with " +
                                      std::string(kPrefix) + std::string(kVersion));
  }
  text.remove_prefix(kPrefix.size());
  if (!text.starts_with(kVersion)) {
    return failure(Errc::unsupported,
                   "the line is of a newer version; install that version here first");
  }
  text.remove_prefix(kVersion.size());
  Wiped all;
  if (from_letters(text, all.bytes) && all.bytes.size() > kCheckBytes) {
    const ByteView covered = ByteView(all.bytes).first(all.bytes.size() - kCheckBytes);
    const auto digest = sha256(covered);
    JoinLine line;
    if (std::equal(all.bytes.end() - kCheckBytes, all.bytes.end(), digest.begin()) &&
        read_fields(covered, line)) {
      return line;
    }
  }
  return failure(Errc::invalid,
                 "the line is damaged: copy the whole line that `datacloud node "
                 "add` has printed");
}

NodeKey invitation_key(const SecretKey& secret) {
  return NodeKey::from_seed(derived(secret, "datacloud 1 join identity"));
}

Bytes seal_bundle(const SecretKey& secret, const std::string& name, ByteView bundle) {
  BlockCipher cipher = bundle_cipher();
  const uint8_t* nonce = cipher.next_nonce();
  constexpr size_t head = BlockCipher::kNonceBytes;
  Bytes out(head + bundle.size() + BlockCipher::kTagBytes);
  if (nonce == nullptr) std::abort();
  std::copy_n(nonce, head, out.begin());
  std::copy(bundle.begin(), bundle.end(), out.begin() + head);
  if (!cipher.seal(derived(secret, "datacloud 1 join seal"), out.data(), as_bytes(name),
                   {out.data() + head, bundle.size()}, out.data() + head + bundle.size())) {
    std::abort();
  }
  return out;
}

result<Bytes> open_bundle(const SecretKey& secret, const std::string& name, ByteView sealed) {
  constexpr size_t head = BlockCipher::kNonceBytes, tail = BlockCipher::kTagBytes;
  const auto corrupt = [] {
    return failure(Errc::corrupt,
                   "what the daemon keeps for this node was not sealed with this "
                   "line; make a new line with `datacloud node add`");
  };
  if (sealed.size() < head + tail) return corrupt();
  Bytes plain = to_bytes(sealed.subspan(head, sealed.size() - head - tail));
  BlockCipher cipher = bundle_cipher();
  if (!cipher.open(derived(secret, "datacloud 1 join seal"), sealed.data(), as_bytes(name), plain,
                   sealed.data() + sealed.size() - tail)) {
    return corrupt();
  }
  return plain;
}

}  // namespace datacloud
