// Sealing of pieces (checkpoint_piece.h).
#include "daemon/checkpoint/checkpoint_piece.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "common/crypto/block_cipher.h"
#include "common/crypto/sealed_block.h"
#include "daemon/journal/log_bytes.h"

namespace datacloud {
namespace {

using journal::get_number;
using journal::put_array;
using journal::put_number;

constexpr uint8_t kPieceMagic[] = {'D', 'C', 'K', 'P'};
constexpr uint8_t kPieceVersion = 1;
constexpr size_t kPackingOffset = 5, kPlainOffset = 8;

EVP_CIPHER* fetch_piece_cipher() {
  EVP_CIPHER* aes = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  if (aes == nullptr) std::abort();  // every OpenSSL 3 has it
  return aes;
}

std::array<uint8_t, BlockCipher::kNonceBytes> nonce_of_piece(uint32_t piece) {
  std::array<uint8_t, BlockCipher::kNonceBytes> nonce{};
  put_number(MutableByteView(nonce), 4, uint64_t{piece});
  return nonce;
}

}  // namespace

SecretKey derive_checkpoint_key(const SecretKey& metadata_key, uint64_t number) {
  return SecretKey(hkdf_sha256(metadata_key.view(), fmt::format("checkpoint {:016x}", number), 32));
}

bool fits_into_piece(ByteView piece, std::string_view key, std::string_view value) {
  return piece.size() + kPieceRecordHeaderBytes + key.size() + value.size() <= kPiecePlainBytesMax;
}

void append_record(Bytes& piece, std::string_view key, std::string_view value) {
  const size_t at = piece.size();
  piece.resize(at + kPieceRecordHeaderBytes + key.size() + value.size());
  put_number(MutableByteView(piece), at, static_cast<uint32_t>(key.size()));
  put_number(MutableByteView(piece), at + 4, static_cast<uint32_t>(value.size()));
  std::copy(key.begin(), key.end(), piece.begin() + static_cast<std::ptrdiff_t>(at + 8));
  std::copy(value.begin(), value.end(),
            piece.begin() + static_cast<std::ptrdiff_t>(at + 8 + key.size()));
}

result<void> visit_records(ByteView piece, const RecordVisitor& visit) {
  while (!piece.empty()) {
    if (piece.size() < kPieceRecordHeaderBytes) break;
    const size_t key = get_number<uint32_t>(piece, 0), value = get_number<uint32_t>(piece, 4);
    piece = piece.subspan(kPieceRecordHeaderBytes);
    if (key > piece.size() || value > piece.size() - key) {
      return failure(Errc::corrupt, "a record of a checkpoint is cut off");
    }
    TRY(visit(as_text(piece.first(key)), as_text(piece.subspan(key, value))));
    piece = piece.subspan(key + value);
  }
  if (piece.empty()) return success();
  return failure(Errc::corrupt, "a piece of a checkpoint does not end with a record");
}

PieceSealer::PieceSealer(const SecretKey& metadata_key, const journal::JournalId& journal,
                         uint64_t number)
    : key_(derive_checkpoint_key(metadata_key, number)),
      journal_(journal),
      number_(number),
      aes_(fetch_piece_cipher()),
      worker_(aes_.get()) {}

Bytes PieceSealer::header(uint32_t piece, uint32_t plain_bytes, bool packed) const {
  Bytes header(kPieceHeaderBytes);
  std::copy(std::begin(kPieceMagic), std::end(kPieceMagic), header.begin());
  header[4] = kPieceVersion;
  header[kPackingOffset] = packed ? 1 : 0;
  put_number(MutableByteView(header), kPlainOffset, plain_bytes);
  put_number(MutableByteView(header), 12, piece);
  put_number(MutableByteView(header), 16, number_);
  put_array(MutableByteView(header), 24, journal_);
  return header;
}

result<Bytes> PieceSealer::seal(uint32_t piece, ByteView plain) {
  const auto packed = worker_.pack(plain, Packing{Compression::zstd});
  Bytes sealed = header(piece, static_cast<uint32_t>(plain.size()),
                        packed.packing.compression == Compression::zstd);
  const Bytes aad = sealed;
  sealed.insert(sealed.end(), packed.bytes.begin(), packed.bytes.end());
  const size_t body = sealed.size() - kPieceHeaderBytes;
  sealed.resize(sealed.size() + kPieceTagBytes);
  const auto nonce = nonce_of_piece(piece);
  uint8_t* const text = sealed.data() + kPieceHeaderBytes;
  if (!worker_.cipher.seal(key_, nonce.data(), aad, MutableByteView(text, body), text + body)) {
    return failure(Errc::io, "OpenSSL could not seal a piece of a checkpoint");
  }
  return sealed;
}

result<Bytes> PieceSealer::open(uint32_t piece, ByteView sealed) {
  const auto bad = [&](const char* why) {
    return failure(Errc::corrupt,
                   fmt::format("piece {} of checkpoint {:016x} {}", piece, number_, why));
  };
  if (sealed.size() < kPieceHeaderBytes + kPieceTagBytes) return bad("is cut off");
  const ByteView shown = sealed.first(kPieceHeaderBytes);
  const uint32_t plain_bytes = get_number<uint32_t>(shown, kPlainOffset);
  const bool packed = shown[kPackingOffset] == 1;
  const Bytes expected = header(piece, plain_bytes, packed);
  if (!std::equal(expected.begin(), expected.end(), shown.begin())) return bad("is another one");
  if (plain_bytes > kPiecePlainBytesMax) return bad("says that it is larger than any");
  const ByteView body =
      sealed.subspan(kPieceHeaderBytes).first(sealed.size() - kPieceHeaderBytes - kPieceTagBytes);
  const auto nonce = nonce_of_piece(piece);
  const char* problem = "";
  auto plain =
      worker_.open(key_, nonce.data(), expected, body, body.data() + body.size(),
                   Packing{packed ? Compression::zstd : Compression::none}, plain_bytes, &problem);
  if (!plain) return bad(problem);
  return std::move(*plain);
}

}  // namespace datacloud
