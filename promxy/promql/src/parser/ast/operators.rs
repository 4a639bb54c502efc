//! The operators: signs, binary operators, aggregations.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Returns the operator as it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Returns the operator that a lower-case word names, if it is one that is written as a word.
            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word if word.starts_with(|c: char| c.is_ascii_lowercase()) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// A binary operator.
    BinaryOp {
        /// `+`
        Add = "+",
        /// `-`
        Sub = "-",
        /// `*`
        Mul = "*",
        /// `/`
        Div = "/",
        /// `%`
        Mod = "%",
        /// `^`
        Pow = "^",
        /// `atan2`
        Atan2 = "atan2",
        /// `==`
        Eq = "==",
        /// `!=`
        NotEq = "!=",
        /// `<`
        Less = "<",
        /// `<=`
        LessEq = "<=",
        /// `>`
        Greater = ">",
        /// `>=`
        GreaterEq = ">=",
        /// `</` keeps the observations of histograms that are below a bound (3.14).
        TrimUpper = "</",
        /// `>/` keeps the observations of histograms that are above a bound (3.14).
        TrimLower = ">/",
        /// `and`
        And = "and",
        /// `or`
        Or = "or",
        /// `unless`
        Unless = "unless",
    }
}

impl BinaryOp {
    /// Whether the operator compares.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Eq | Self::NotEq | Self::Less | Self::LessEq | Self::Greater | Self::GreaterEq
        )
    }

    /// Whether the operator works on sets of series.
    pub fn is_set_operator(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Returns how tightly the operator binds.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::TrimUpper | Self::TrimLower => 3,
            op if op.is_comparison() => 3,
            Self::Add | Self::Sub => 4,
            Self::Pow => 6,
            _ => Self::SIGN_PRECEDENCE,
        }
    }

    /// A sign binds like a product, so `-2^2` is -4.
    pub(crate) const SIGN_PRECEDENCE: u8 = 5;

    /// Whether, in `a op b op c`, the left pair goes first.
    pub(crate) fn is_left_associative(self) -> bool {
        self != Self::Pow
    }
}

words! {
    /// An aggregation.
    AggregateOp {
        /// `avg`
        Avg = "avg",
        /// `bottomk`
        Bottomk = "bottomk",
        /// `count`
        Count = "count",
        /// `count_values`
        CountValues = "count_values",
        /// `group`
        Group = "group",
        /// `limit_ratio` (experimental)
        LimitRatio = "limit_ratio",
        /// `limitk` (experimental)
        Limitk = "limitk",
        /// `max`
        Max = "max",
        /// `min`
        Min = "min",
        /// `quantile`
        Quantile = "quantile",
        /// `stddev`
        Stddev = "stddev",
        /// `stdvar`
        Stdvar = "stdvar",
        /// `sum`
        Sum = "sum",
        /// `topk`
        Topk = "topk",
    }
}

impl AggregateOp {
    /// Whether the operation takes an argument before the expression.
    pub fn has_param(self) -> bool {
        matches!(
            self,
            Self::Topk
                | Self::Bottomk
                | Self::CountValues
                | Self::Quantile
                | Self::Limitk
                | Self::LimitRatio
        )
    }

    /// Whether Prometheus calls the operation experimental.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// A sign in front of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

impl Sign {
    /// Returns the sign as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }

    /// Returns `value` with the sign in front.
    pub(crate) fn apply(self, value: f64) -> f64 {
        match self {
            Self::Plus => value,
            Self::Minus => -value,
        }
    }
}
