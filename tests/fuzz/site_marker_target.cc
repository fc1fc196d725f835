// Site markers: what is accepted survives being written again.
#include "common/store/object_store.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace site_marker_input {

void run(ByteView input) {
  const auto marker = SiteMarker::decode(as_text(input));
  if (!marker) return;
  const auto again = SiteMarker::decode(marker.value().encode());
  // Escaping may make a marker longer than a marker may be.
  require(!again || again.value() == marker.value(), "a marker keeps its meaning");
}

std::vector<Bytes> seeds() {
  return {copy_of(SiteMarker{"00112233", "demo", "tsukuba", 3, 1}.encode()),
          copy_of(SiteMarker{"u", "a%b\nc", "\x7f", 0, 1}.encode())};
}

}  // namespace site_marker_input

FuzzTarget site_marker_target() {
  return {"site_marker", site_marker_input::run, site_marker_input::seeds};
}

}  // namespace datacloud::fuzz
