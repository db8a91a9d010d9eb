//! Graph expressions → DataFusion physical expressions, evaluated over batches.
