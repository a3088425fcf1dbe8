//! Media: from captured packets to one timeline.
