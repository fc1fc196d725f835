// The only way to Boost.Asio: its bodies are compiled once, in asio.cc, which saves every including
// file about ten seconds. Include from .cc files only, so that headers stay cheap.
#pragma once

#include <utility>  // first: Asio 1.74 uses std::exchange without it under C++20

#ifndef BOOST_ASIO_SEPARATE_COMPILATION
#define BOOST_ASIO_SEPARATE_COMPILATION
#endif

// ThreadSanitizer does not know fences (GCC warns of each); the scheduler's mutex orders enough.
#if defined(__SANITIZE_THREAD__) && !defined(BOOST_ASIO_DISABLE_FENCED_BLOCK)
#define BOOST_ASIO_DISABLE_FENCED_BLOCK
#endif

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
