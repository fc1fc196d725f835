// Frames between nodes and the server of a site, arriving in pieces of any size, and the requests
// in them, run on a store.
#include "common/store/remote/site_frame.h"

#include <algorithm>

#include "common/store/memory_store.h"
#include "common/store/remote/site_messages.h"
#include "common/store/remote/site_requests.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace site_frame_input {

constexpr uint64_t kSegmentBytesHere = 1u << 20;  // larger ones are true, and slow

void handle(ObjectStore& store, SiteFrameReader::Whole whole) {
  uint64_t bytes = 0;
  require(static_cast<size_t>(whole.head.segments_size()) == whole.segments.size(),
          "a segment for each length");
  for (const auto& segment : whole.segments) bytes += segment.size();
  require(bytes <= kSegmentBytesMax, "segments are bounded");
  if (whole.head.has_reply()) {
    (void)reply_error(whole.head.reply());
    const auto attributes = get_attributes(whole.head.reply().attributes());
    size_t size = 0;
    if (attributes)
      for (const auto& [name, value] : attributes.value()) size += name.size() + value.size();
    require(size <= kAttributesBytesMax, "attributes are bounded");
    return;
  }
  require(answer_bytes_max(whole.head.request()) <= kObjectBytesMax, "answers are bounded");
  if (!whole.head.has_request() || answer_bytes_max(whole.head.request()) > kSegmentBytesHere)
    return;
  int answers = 0;  // the memory store answers at once
  static const auto window = SiteWindow::make(64 << 10).value();
  if (!fits_window(whole.head, window.get())) return;  // the connection is closed
  run_site_request(store, std::move(whole), window, nullptr, [&](SiteFrameOut out) {
    require(out.head.size() > 8, "an answer has a head");
    ++answers;
  });
  require(answers == 1, "a request is answered once");
}

void run(ByteView input) {
  silence_protobuf();
  const auto store = make_memory_store();
  SiteFrameReader reader;
  size_t piece = 1;
  while (!input.empty()) {
    const MutableByteView space = reader.space();
    require(!space.empty(), "there is always room for more");
    const size_t n = std::min({piece, space.size(), input.size()});
    std::copy_n(input.begin(), n, space.begin());
    input = input.subspan(n);
    piece = piece * 3 % 1009 + 1;
    auto event = reader.filled(n);
    if (!event) return;  // the connection is closed
    if (event.value() == SiteFrameReader::Event::head) {
      require(reader.segment_bytes() <= kSegmentBytesMax, "segments are bounded");
      if (reader.segment_bytes() > kSegmentBytesHere) return;
      event = reader.proceed();
    }
    if (event.value() == SiteFrameReader::Event::frame) handle(*store, reader.take());
  }
}

Bytes encoded(pb::StoreFrame frame, const Bytes& data) {
  auto out = make_site_frame(std::move(frame), {ByteView(data)}, nullptr);
  out.head.insert(out.head.end(), data.begin(), data.end());
  return out.head;
}

std::vector<Bytes> seeds() {
  pb::StoreFrame put;
  put.set_id(7);
  put.mutable_request()->set_name("one");
  auto& attribute = *put.mutable_request()->mutable_put()->add_attributes();
  attribute.set_name("i");
  attribute.set_value(std::string(8, '\1'));
  pb::StoreFrame read;
  read.set_id(8);
  read.mutable_request()->set_name("one");
  read.mutable_request()->mutable_read()->add_ranges()->set_length(10);
  pb::StoreFrame local = read;
  auto& space = *local.mutable_request()->add_space();
  space.set_offset(4096);
  space.set_length(10);
  local.add_segments(0);
  local.add_in_window(0);
  pb::StoreFrame local_put = put;
  local_put.add_segments(100);
  local_put.add_in_window(8193);
  pb::StoreFrame derive;
  derive.mutable_request()->set_name("two");
  auto& d = *derive.mutable_request()->mutable_derive();
  d.set_source("one");
  d.set_source_instance(0x0101010101010101);
  d.set_size(4);
  d.add_data_offsets(0);
  pb::StoreFrame combine;
  combine.mutable_request()->set_name("one");
  combine.mutable_request()->mutable_combine()->add_ranges()->set_length(4);
  combine.mutable_request()->mutable_combine()->add_coefficients("\2");
  pb::StoreFrame prove;
  prove.mutable_request()->set_name("one");
  prove.mutable_request()->mutable_prove()->set_seed(std::string(32, 's'));
  pb::StoreFrame list;
  list.mutable_request()->mutable_list()->set_count_max(5);
  pb::StoreFrame reply;
  set_error(*reply.mutable_reply(), Error(Errc::away, "gone"));
  set_attributes(*reply.mutable_reply()->mutable_attributes(), {{"a", "b"}});
  std::vector<Bytes> out;
  Bytes all;
  for (const auto& [frame, data] :
       {std::pair(put, Bytes{1, 2, 3}), std::pair(read, Bytes()), std::pair(local, Bytes()),
        std::pair(local_put, Bytes()), std::pair(derive, Bytes{1, 2}), std::pair(combine, Bytes()),
        std::pair(prove, Bytes()), std::pair(list, Bytes()), std::pair(reply, Bytes())}) {
    out.push_back(encoded(frame, data));
    all.insert(all.end(), out.back().begin(), out.back().end());
  }
  out.push_back(all);
  return out;
}

}  // namespace site_frame_input

FuzzTarget site_frame_target() {
  return {"site_frame", site_frame_input::run, site_frame_input::seeds};
}

}  // namespace datacloud::fuzz
