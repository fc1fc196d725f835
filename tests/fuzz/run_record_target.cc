// Block runs as stored, under any key: what fsck takes for a run has a place and a meaning, and a
// run with inline bytes or patches is of one block.
#include "common/proto/records.pb.h"
#include "daemon/fsck/lost_runs.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace run_record_input {

constexpr InodeId kIno = 7;

void run(ByteView input) {
  silence_protobuf();
  pb::Run run;
  if (!run.ParseFromArray(input.data(), static_cast<int>(input.size()))) return;
  const std::string k = key::run(kIno, run.first_block());
  if (!is_run(k, run) || run.first_block() >= uint64_t{1} << 51) return;
  require(run.count() > 0, "it has blocks");
  require(names_slots(run) + run.inline_() + is_lost(run) >= 1, "it says where its bytes are");
  require(!is_lost(run) || !inline_blocks::has_records(run), "what is lost has no bytes");
  if (!inline_blocks::has_records(run)) return;
  require(run.count() == 1, "records are of one block");
  require(names_slots(run) || run.inline_(), "patches change something");
  // All of it is kept by a split that takes nothing away, and nothing by one that loses it.
  const StoredRun stored{kIno, run, run.SerializeAsString(), std::nullopt};
  const auto kept = split_run(stored, {{1, RunPart::Fate::kept}}, UINT64_MAX);
  pb::Run again;
  require(kept.size() == 1 && kept[0].becomes && again.ParseFromString(*kept[0].becomes) &&
              again.inline_() == run.inline_() && again.patches() == run.patches(),
          "a kept part keeps its records");
  const auto lost = split_run(stored, {{1, RunPart::Fate::lost}}, UINT64_MAX);
  require(lost.size() == 1 && lost[0].becomes && again.ParseFromString(*lost[0].becomes) &&
              is_lost(again) && !inline_blocks::has_records(again),
          "a lost one has none");
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  pb::Run run;
  run.set_first_block(3);
  run.set_count(4);
  run.set_stripe(5);
  run.set_first_slot(2);
  run.set_version(900);
  all.push_back(copy_of(run.SerializeAsString()));
  run.mutable_sealed_for()->set_ino(16);
  run.mutable_sealed_for()->set_first_block(9);
  all.push_back(copy_of(run.SerializeAsString()));
  run.set_count(1);
  run.set_patches(3);
  require(is_run(key::run(kIno, 3), run), "a patched run is one");
  all.push_back(copy_of(run.SerializeAsString()));
  pb::Run inlined;
  inlined.set_first_block(3);
  inlined.set_count(1);
  inlined.set_version(900);
  inlined.set_inline_(true);
  require(is_run(key::run(kIno, 3), inlined), "an inline run is one");
  all.push_back(copy_of(inlined.SerializeAsString()));
  inlined.set_patches(8);
  all.push_back(copy_of(inlined.SerializeAsString()));
  return all;
}

}  // namespace run_record_input

FuzzTarget run_record_target() {
  return {"run_record", run_record_input::run, run_record_input::seeds};
}

}  // namespace datacloud::fuzz
