// What says where a journal is: segment headers and claim files.
#include <algorithm>

#include "daemon/journal/claim_format.h"
#include "daemon/journal/segment_format.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace journal_head_input {

using namespace journal;

void run(ByteView input) {
  if (const auto header = decode_segment_header(input)) {
    const SegmentHeader& h = header.value();
    require(h.previous.size() <= kSegmentNameBytesMax, "names are bounded");
    require(h.unit >= 512 && h.unit <= kAppendUnitMax, "units are bounded");
    require(encode_segment_header(h) == to_bytes(input.first(kSegmentHeaderBytes)),
            "a segment header has one spelling");
  }
  // The claim's first page may be short here: mutations of whole files would rarely meet it.
  Bytes file = to_bytes(input);
  file.resize(kClaimFileBytes, 0);
  for (const ByteView bytes : {input, ByteView(file)}) {
    const auto claim = decode_claim_file(bytes);
    if (!claim) continue;
    require(bytes.size() >= kClaimFileBytes, "a claim is whole");
    require(claim.value().floor >= claim.value().claim.floor && claim.value().floor > 0,
            "a floor does not fall");
    require(claim.value().claim.epoch.number <= kEpochNumberMax, "epochs are bounded");
  }
}

std::vector<Bytes> seeds() {
  SegmentHeader header;
  header.epoch = {7, 8};
  header.base = {{6, 5}, 12, {}};
  header.previous = "segment-1";
  header.previous_bytes = 8192;
  Claim claim;
  claim.epoch = {7, 8};
  claim.index = 3;
  Bytes page = encode_claim_file(claim);
  Bytes raised = page;
  const Bytes floor = encode_floor_page(1, 77);
  std::copy(floor.begin(), floor.end(),
            raised.begin() + static_cast<std::ptrdiff_t>(floor_page_of(1) * kClaimPageBytes));
  page.resize(128);
  return {encode_segment_header(header), page, raised};
}

}  // namespace journal_head_input

FuzzTarget journal_head_target() {
  return {"journal_head", journal_head_input::run, journal_head_input::seeds};
}

}  // namespace datacloud::fuzz
