// Headers that most files include, precompiled (groups.cmake): of libraries, and of the protocol,
// whose messages half of the files use and no header takes longer to read. None else of ours: each
// edit of it would compile everything again. Every file includes what it needs itself.
#pragma once

#include "common/proto/rpc.pb.h"

#include <google/protobuf/generated_message_util.h>
#include <google/protobuf/map.h>
#include <google/protobuf/map_entry.h>
#include <google/protobuf/map_field_inl.h>
#include <google/protobuf/message.h>
#include <google/protobuf/repeated_field.h>
#include <google/protobuf/unknown_field_set.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

// The whole of fmt's formatting would be compiled again in every file that logs.
// common/base/formatting.cc has it once.
extern template void fmt::detail::vformat_to<char>(buffer<char>&, basic_string_view<char>,
                                                   format_args, locale_ref);
