// The codec of claim files (claim_format.h). Every page has a magic and a CRC of its own; of the
// two pages of the floor one may be torn, and the other holds then.
#include "daemon/journal/claim_format.h"

#include "common/base/crc32c.h"
#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

constexpr uint32_t kClaimMagic = 0x434a4344;       // "DCJC"
constexpr uint32_t kSupersededMagic = 0x584a4344;  // "DCJX"
constexpr uint32_t kFloorMagic = 0x464a4344;       // "DCJF"
constexpr size_t kRecordBytes = 128;               // of a page; the rest is zero
constexpr size_t kCrcOffset = kRecordBytes - 4;

ByteView page(ByteView file, size_t number) {
  return file.subspan(number * kClaimPageBytes, kClaimPageBytes);
}

void finish(MutableByteView record, uint32_t magic) {
  put_number(record, 0, magic);
  record[4] = 1;
  put_number(record, kCrcOffset, crc32c(ByteView(record).first(kCrcOffset)));
}

bool holds(ByteView record, uint32_t magic) {
  return get_number<uint32_t>(record, 0) == magic && record[4] == 1 &&
         get_number<uint32_t>(record, kCrcOffset) == crc32c(record.first(kCrcOffset));
}

}  // namespace

size_t floor_page_of(uint64_t count) { return kFloorPage + count % 2; }

Bytes encode_claim_file(const Claim& claim) {
  Bytes out(kClaimFileBytes, 0);
  out[5] = claim.seals ? 1 : 0;
  put_array(out, 16, claim.journal);
  put_number(out, 32, claim.epoch.number);
  put_number(out, 40, claim.epoch.nonce);
  put_number(out, 48, claim.index);
  put_number(out, 56, claim.floor);
  finish(out, kClaimMagic);
  return out;
}

Bytes encode_superseded_page(uint64_t by_index) {
  Bytes out(kClaimPageBytes, 0);
  put_number(out, 16, by_index);
  finish(out, kSupersededMagic);
  return out;
}

Bytes encode_floor_page(uint64_t count, uint64_t floor) {
  Bytes out(kClaimPageBytes, 0);
  put_number(out, 16, count);
  put_number(out, 24, floor);
  finish(out, kFloorMagic);
  return out;
}

result<ClaimFile> decode_claim_file(ByteView bytes) {
  if (bytes.size() < kClaimFileBytes) return failure(Errc::corrupt, "claim: too short");
  const ByteView first = page(bytes, kClaimPage);
  if (!holds(first, kClaimMagic))
    return failure(Errc::corrupt, "claim: damaged, or a newer format");
  ClaimFile file;
  file.claim.seals = first[5] != 0;
  file.claim.journal = get_array<16>(first, 16);
  file.claim.epoch = {get_number<uint64_t>(first, 32), get_number<uint64_t>(first, 40)};
  file.claim.index = get_number<uint64_t>(first, 48);
  file.claim.floor = file.floor = get_number<uint64_t>(first, 56);
  if (file.claim.epoch.number > kEpochNumberMax || file.claim.floor == 0) {
    return failure(Errc::corrupt, "claim: a field is out of its range");
  }
  // Anything there counts, also a torn mark: a claim that is doubted does not lead.
  file.superseded = !all_zero(page(bytes, kSupersededPage));
  for (const size_t number : {kFloorPage, kFloorPage + 1}) {
    const ByteView record = page(bytes, number);
    if (!holds(record, kFloorMagic)) continue;
    file.floor_count = std::max(file.floor_count, get_number<uint64_t>(record, 16));
    file.floor = std::max(file.floor, get_number<uint64_t>(record, 24));
  }
  return file;
}

}  // namespace datacloud::journal
